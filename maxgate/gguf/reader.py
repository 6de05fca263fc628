"""A GGUF file as metadata and tensors that are read piece by piece."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader
from numpy.typing import NDArray

from maxgate.errors import ConfigurationError, ModelFileError


class MappedReader(GGUFReader):
    """Reads a header with hundreds of thousands of strings in a third of the time.

    The package slices a `numpy.memmap` for each of them, which costs several times what slicing an
    array does; the array here is the same mapped memory.
    """

    @property
    def data(self) -> Any:
        """The whole file's bytes."""
        return self._data

    @data.setter
    def data(self, mapped: Any) -> None:
        self._data = mapped.view(np.ndarray)


_MAGIC = b"GGUF"
_PIECE_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies and how it is stored.

    `shape` is outermost dimension first, as numpy has it (GGUF stores it the other way round).
    """

    name: str
    shape: tuple[int, ...]
    encoding: Any  # gguf.GGMLQuantizationType
    offset: int
    stored_bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return int(np.prod(self.shape))


class GGUFFile:
    """One opened GGUF file.

    Raises ModelFileError where the file is not GGUF, is cut short, or is not a Llama model.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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

    def _parse(self) -> Any:
        try:
            # An extra, not part of the base install.
            from maxgate.gguf.reader import MappedReader  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                "Reading GGUF files needs the extra 'local': pip install 'maxgate[local]'"
            ) from error
        try:
            return MappedReader(self.path)
        except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
            # The reader has no error of its own for a file that ends too early.
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
        """A metadata value as plain Python, or `default`.

        Raises ModelFileError where it cannot be read.
        """
        field = self._fields.get(key)
        try:
            return default if field is None else field.contents()
        except UnicodeDecodeError as error:
            raise ModelFileError(
                f"{self.path} is damaged: its metadata {key!r} is no text. Download it again."
            ) from error

    def require(self, key: str) -> Any:
        """A metadata value that no model can do without.

        Raises ModelFileError where it is missing.
        """
        value = self.get(key)
        if value is None:
            raise ModelFileError(f"{self.path} lacks the metadata {key!r}; it cannot be served.")
        return value

    def tensor(self, name: str) -> Tensor | None:
        """The tensor of this name, if there is one."""
        return next((t for t in self.tensors if t.name == name), None)

    def read_rows(self, tensor: Tensor, *, multiple: int = 1) -> Iterator[NDArray[np.float32]]:
        """Dequantised rows of a tensor, in order, a few at a time.

        Every piece but the last holds a whole number of `multiple` rows, and a piece stays small
        enough for tensors of any size to be converted in little memory.
        """
        from gguf import dequantize  # noqa: PLC0415  # see _parse

        rows, columns = tensor.elements // tensor.shape[-1], tensor.shape[-1]
        row_bytes = tensor.stored_bytes // rows
        step = max(1, _PIECE_BYTES // (columns * 4 * multiple)) * multiple
        with self.path.open("rb") as file:
            file.seek(tensor.offset)
            for first in range(0, rows, step):
                count = min(step, rows - first)
                raw = np.frombuffer(file.read(count * row_bytes), dtype=np.uint8)
                if raw.size != count * row_bytes:
                    raise ModelFileError(f"{self.path} ended inside the tensor {tensor.name}.")
                yield dequantize(raw.reshape(count, row_bytes), tensor.encoding).reshape(
                    count, columns
                )
