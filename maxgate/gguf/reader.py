"""Reading the metadata and tensors of a GGUF model, which may be split into several files."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.header import Header, Tensor, open_regular, read_header
from maxgate.gguf.parts import locate_parts
from maxgate.installation import missing_extra

try:
    import numpy as np
    from gguf import dequantize
    from numpy.typing import NDArray
except ImportError as error:  # an extra, not part of the base install
    raise missing_extra("reading GGUF files", "prepare") from error

_PIECE_BYTES: Final = 32 * 2**20


class GGUFFile:
    """One opened GGUF model; tensors are read in pieces of about `piece_bytes`.

    Opens all parts of a split model, whichever one `path` is. The metadata is that of the first.

    Raises ModelFileError if a file is not GGUF, damaged or truncated, or if a part is missing.
    """

    def __init__(self, path: Path, *, piece_bytes: int = _PIECE_BYTES) -> None:
        self.path = path
        self._piece_bytes = piece_bytes
        self.parts = _read_parts(path)
        self._metadata = self.parts[0].metadata
        self.tensors = tuple(tensor for part in self.parts for tensor in part.tensors)
        self._by_name = {tensor.name: tensor for tensor in self.tensors}

    @property
    def keys(self) -> frozenset[str]:
        """The keys of the metadata."""
        return frozenset(self._metadata)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a metadata value, or `default`: a string, number, list or numpy array."""
        return self._metadata.get(key, default)

    def require(self, key: str) -> Any:
        """Return a required metadata value.

        Raises ModelFileError if it is missing.
        """
        if key not in self._metadata:
            raise ModelFileError(f"{self.path} lacks the metadata {key!r}; it cannot be served.")
        return self._metadata[key]

    def read_text(self, key: str, default: str = "") -> str:
        """Return a string from the metadata, or `default`.

        Raises ModelFileError for a value of another type.
        """
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def read_flag(self, key: str, default: bool) -> bool:
        """Return a boolean from the metadata, or `default`.

        Raises ModelFileError for a value of another type.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def read_integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """Return an integer from the metadata, or `default`; without one it is required.

        Raises ModelFileError for a value of another type or range.
        """
        value = self.require(key) if default is None else self.get(key, default)
        if isinstance(value, np.ndarray):
            raise ModelFileError(
                f"{self.path} has a value per layer in {key!r}; MAX serves Llama models whose "
                "layers are equal. Use another model."
            )
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(key, f"an integer from {least} to {most}")
        return value

    def read_number(
        self, key: str, least: float, most: float, default: float | None = None
    ) -> float:
        """Return a finite number from the metadata, or `default`; without one it is required.

        Raises ModelFileError for a value of another type or range.
        """
        value = self.require(key) if default is None else self.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not least <= value <= most:
            raise self._wrong(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def _wrong(self, key: str, rule: str) -> ModelFileError:
        shown = repr(self.get(key))
        shown = shown if len(shown) <= 60 else shown[:60] + "..."
        return ModelFileError(
            f"{self.path} has {shown} as {key!r}, which must be {rule}. Download it again."
        )

    def tensor(self, name: str) -> Tensor | None:
        """Return the tensor with this name, or None."""
        return self._by_name.get(name)

    def read_rows(self, tensor: Tensor, *, multiple: int = 1) -> Iterator[NDArray[np.float32]]:
        """Yield the dequantized rows of a tensor in pieces, so that memory use stays small.

        Each piece but the last has a multiple of `multiple` rows.

        Raises ModelFileError if a value is not finite.
        """
        rows, columns = tensor.elements // tensor.shape[-1], tensor.shape[-1]
        row_bytes = tensor.stored_bytes // rows
        step = max(1, self._piece_bytes // (columns * 4 * multiple)) * multiple
        with open_regular(tensor.path) as file:
            file.seek(tensor.offset)
            for first in range(0, rows, step):
                count = min(step, rows - first)
                raw = np.frombuffer(file.read(count * row_bytes), dtype=np.uint8)
                if raw.size != count * row_bytes:
                    raise ModelFileError(f"{tensor.path} is truncated inside {tensor.name}.")
                # Damaged scales overflow, which the check reports.
                with np.errstate(all="ignore"):
                    values = dequantize(raw.reshape(count, row_bytes), tensor.encoding)
                if not np.isfinite(values).all():
                    raise ModelFileError(
                        f"{tensor.path} is damaged: {tensor.name} has values that are not finite. "
                        "Download it again."
                    )
                yield values.reshape(count, columns)


def _read_parts(path: Path) -> tuple[Header, ...]:
    first = read_header(path)
    count = first.metadata.get("split.count", 1)
    if not isinstance(count, int):
        raise ModelFileError(f"{path} has no number as 'split.count'. Download it again.")
    if count <= 1:
        return (first,)
    parts = tuple(read_header(part) for part in locate_parts(path, count))
    _check_parts(parts)
    return parts


def _check_parts(parts: tuple[Header, ...]) -> None:
    for number, part in enumerate(parts):
        found = part.metadata.get("split.count"), part.metadata.get("split.no")
        if found != (len(parts), number):
            raise ModelFileError(
                f"{part.path} is not part {number + 1} of {len(parts)}, as its name says: "
                f"split.count and split.no are {found[0]} and {found[1]}. Download it again."
            )
    names = [tensor.name for part in parts for tensor in part.tensors]
    expected = parts[0].metadata.get("split.tensors.count", len(names))
    if expected != len(names) or len(set(names)) != len(names):
        raise ModelFileError(
            f"{parts[0].path} and its other parts do not fit together: they have "
            f"{len(set(names))} different tensors of {expected}. Download all of them again."
        )
