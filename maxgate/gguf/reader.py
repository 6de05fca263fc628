"""Reading the metadata and tensors of a GGUF file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from maxgate.gguf.errors import ModelFileError
from maxgate.installation import missing_extra

try:
    import numpy as np
    from gguf import GGUFReader, dequantize
    from numpy.typing import NDArray
except ImportError as error:  # an extra, not part of the base install
    raise missing_extra("reading GGUF files", "prepare") from error


class MappedReader(GGUFReader):
    """Reads a header with hundreds of thousands of strings in a third of the time.

    The base class slices a `numpy.memmap` for each string, which costs several times as much as
    slicing a plain array over the same mapped memory.
    """

    @property
    def data(self) -> Any:
        """The bytes of the file."""
        return self._data

    @data.setter
    def data(self, mapped: Any) -> None:
        self._data = mapped.view(np.ndarray)


_MAGIC: Final = b"GGUF"
_PIECE_BYTES: Final = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Tensor:
    """The position and encoding of a tensor in the file.

    `shape` has the outermost dimension first, as in numpy (GGUF stores it in reverse).
    """

    name: str
    shape: tuple[int, ...]
    encoding: Any  # gguf.GGMLQuantizationType
    offset: int
    stored_bytes: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape))


class GGUFFile:
    """One opened GGUF file; tensors are read in pieces of about `piece_bytes`.

    Raises ModelFileError if the file is not GGUF, damaged or truncated.
    """

    def __init__(self, path: Path, *, piece_bytes: int = _PIECE_BYTES) -> None:
        self.path = path
        self._piece_bytes = piece_bytes
        self._check_magic()
        reader = self._parse()
        self._fields = reader.fields
        self.tensors = tuple(
            Tensor(
                name=tensor.name,
                shape=tuple(int(n) for n in reversed(tensor.shape)),
                encoding=tensor.tensor_type,
                offset=int(tensor.data_offset),
                stored_bytes=int(tensor.n_bytes),
            )
            for tensor in reader.tensors
        )
        self._check_complete()

    def _check_magic(self) -> None:
        try:
            with self.path.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise ModelFileError(f"{self.path}: {error.strerror or error}") from error
        if magic != _MAGIC:
            raise ModelFileError(f"{self.path} is not a GGUF file (it does not start with 'GGUF').")

    def _parse(self) -> MappedReader:
        try:
            return MappedReader(self.path)
        except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
            # The reader has no exception for truncated files.
            raise ModelFileError(
                f"{self.path} is truncated or damaged: its header cannot be read. "
                "Download it again."
            ) from error

    def _check_complete(self) -> None:
        size = self.path.stat().st_size
        needed = max((t.offset + t.stored_bytes for t in self.tensors), default=0)
        if size < needed:
            raise ModelFileError(
                f"{self.path} is truncated: {size:,} bytes of at least {needed:,}. "
                "Download it again."
            )

    def get(self, key: str, default: Any = None) -> Any:
        """Return a metadata value as a Python object, or `default`.

        Raises ModelFileError if it is not valid UTF-8.
        """
        field = self._fields.get(key)
        try:
            return default if field is None else field.contents()
        except UnicodeDecodeError as error:
            raise ModelFileError(
                f"{self.path} is damaged: its metadata {key!r} is not valid UTF-8. "
                "Download it again."
            ) from error

    def require(self, key: str) -> Any:
        """Return a required metadata value.

        Raises ModelFileError if it is missing.
        """
        value = self.get(key)
        if value is None:
            raise ModelFileError(f"{self.path} lacks the metadata {key!r}; it cannot be served.")
        return value

    def tensor(self, name: str) -> Tensor | None:
        """Return the tensor with this name, or None."""
        return next((t for t in self.tensors if t.name == name), None)

    def read_rows(self, tensor: Tensor, *, multiple: int = 1) -> Iterator[NDArray[np.float32]]:
        """Yield the dequantized rows of a tensor in pieces, so that memory use stays small.

        Each piece but the last has a multiple of `multiple` rows.
        """
        rows, columns = tensor.elements // tensor.shape[-1], tensor.shape[-1]
        row_bytes = tensor.stored_bytes // rows
        step = max(1, self._piece_bytes // (columns * 4 * multiple)) * multiple
        with self.path.open("rb") as file:
            file.seek(tensor.offset)
            for first in range(0, rows, step):
                count = min(step, rows - first)
                raw = np.frombuffer(file.read(count * row_bytes), dtype=np.uint8)
                if raw.size != count * row_bytes:
                    raise ModelFileError(f"{self.path} is truncated inside {tensor.name}.")
                yield dequantize(raw.reshape(count, row_bytes), tensor.encoding).reshape(
                    count, columns
                )
