"""Parsing the header of a GGUF file: its metadata and the positions of its tensors.

The format is specified in ggml's `docs/gguf.md`. Unlike the reader of the package `gguf`, this one
checks each count and length before it reads on, so that a hostile header costs at most a few times
its size in memory, and parses without a memory map, which kills the process if the file shrinks.
"""

import math
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from maxgate.gguf.errors import ModelFileError
from maxgate.installation import missing_extra

try:
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
except ImportError as error:  # an extra, not part of the base install
    raise missing_extra("reading GGUF files", "prepare") from error

MAX_HEADER_BYTES: Final = 128 * 2**20
MAX_KEYS: Final = 10_000
MAX_TENSORS: Final = 20_000
# Strings in all arrays together; Llama 3 has 410,000 tokens and merges, Gemma 780,000.
MAX_STRINGS: Final = 1_000_000
MAX_TEXT_BYTES: Final = 16 * 2**20
_MAX_NAME_BYTES: Final = 1024
_MAX_DIMENSIONS: Final = 4
_DEFAULT_ALIGNMENT: Final = 32
_VERSIONS: Final = (2, 3)

_STRING, _ARRAY, _BOOL, _UINT32 = 8, 9, 7, 4
# Value types by their number in the file, as formats of `struct`.
_SCALARS: Final = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIifBQqd", strict=True))
# How files of other kinds begin.
_OTHER_KINDS: Final = {
    b"version https://git-lfs": "a Git LFS pointer; run `git lfs pull` in its repository",
    b"<": "a web page; download the file itself, signed in if it needs that",
    b"PK": "a zip or PyTorch file; download the GGUF version of the model",
    b"lmgg": "an old GGML file; download a newer version",
    b"tjgg": "an old GGML file; download a newer version",
    b"": "download it again",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """The position and encoding of a tensor.

    `shape` has the outermost dimension first, as in numpy (GGUF stores it in reverse). `offset` is
    the position in `path`.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    encoding: Any  # gguf.GGMLQuantizationType
    offset: int
    stored_bytes: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one file.

    `metadata` has strings, numbers, lists of strings and numpy arrays of numbers by key. `raw` has
    each key with its value as in the file.
    """

    path: Path
    metadata: dict[str, Any]
    raw: dict[str, bytes]
    tensors: tuple[Tensor, ...]


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading.

    Raises ModelFileError if it cannot be opened, or is a pipe, a device or a directory.
    """
    try:
        # Opening a pipe without this flag waits for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        detail = "is a link to a missing file" if path.is_symlink() else "No such file"
        raise ModelFileError(f"{path}: {detail}.") from error
    except OSError as error:
        raise ModelFileError(f"{path}: {error.strerror or error}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelFileError(f"{path} is not a regular file; give a GGUF file.")
    with os.fdopen(descriptor, "rb") as file:
        yield file


def read_header(path: Path) -> Header:
    """Parse and check the header of a file.

    Raises ModelFileError if the file is not GGUF, of a version or byte order that MAX does not
    read, damaged, truncated or beyond the limits of this module.
    """
    with open_regular(path) as file:
        try:
            return _HeaderReader(path, file).read()
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


class _HeaderReader:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._position = 0
        self._strings_left = MAX_STRINGS

    def read(self) -> Header:
        self._check_kind()
        tensor_count, key_count = self._numbers("QQ")
        self._limit(key_count, MAX_KEYS, "metadata values")
        self._limit(tensor_count, MAX_TENSORS, "tensors")
        metadata: dict[str, Any] = {}
        raw: dict[str, bytes] = {}
        for _ in range(key_count):
            begin = self._position
            key = self._text("a key of the metadata", _MAX_NAME_BYTES)
            if key in metadata:
                raise self._damaged(f"its metadata has {key!r} twice")
            metadata[key] = self._value(key)
            raw[key] = self._reread(begin)
        alignment = self._find_alignment(metadata, raw)
        infos = [self._tensor_info() for _ in range(tensor_count)]
        return Header(self._path, metadata, raw, self._place(infos, alignment))

    def _check_kind(self) -> None:
        begin = self._file.read(32)
        self._file.seek(0)
        if not begin.startswith(b"GGUF"):
            hint = next(text for start, text in _OTHER_KINDS.items() if begin.startswith(start))
            raise ModelFileError(
                f"{self._path} is not a GGUF file (it does not start with 'GGUF'): {hint}."
            )
        _, version = self._numbers("II")
        if version & 0xFFFF == 0 and version:
            raise ModelFileError(
                f"{self._path} is a big-endian GGUF file, and MAX reads little-endian ones. "
                f"Convert a copy in place with: gguf-convert-endian COPY.gguf little"
            )
        if version not in _VERSIONS:
            raise ModelFileError(
                f"{self._path} has GGUF version {version}; versions 2 and 3 are supported. "
                "Download a newer file, or convert it again with llama.cpp."
            )

    def _value(self, key: str) -> Any:
        (kind,) = self._numbers("I")
        if kind == _STRING:
            return self._text(f"its metadata {key!r}", MAX_TEXT_BYTES)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            raise self._damaged(f"its metadata {key!r} has the unknown type {kind}")
        (value,) = self._numbers(_SCALARS[kind])
        if kind != _BOOL:
            return value
        if value > 1:
            raise self._damaged(f"its metadata {key!r} is neither true nor false")
        return bool(value)

    def _array(self, key: str) -> Any:
        kind, count = self._numbers("IQ")
        if kind == _STRING:
            self._strings_left -= count
            self._limit(count, self._strings_left + count, f"strings in {key!r} and before")
            self._require(count * 8)
            return self._texts(key, count)
        if kind not in _SCALARS:
            nested = "is an array of arrays" if kind == _ARRAY else f"has the unknown type {kind}"
            raise self._damaged(f"its metadata {key!r} {nested}")
        dtype = np.dtype("<" + _SCALARS[kind])
        return np.frombuffer(self._take(count * dtype.itemsize), dtype)

    def _texts(self, key: str, count: int) -> list[str]:
        # Inlined, because a vocabulary has hundreds of thousands.
        read, unpack = self._file.read, struct.Struct("<Q").unpack
        left = min(self._size, MAX_HEADER_BYTES) - self._position
        texts, number = [], 0
        try:
            for number in range(count):
                (length,) = unpack(read(8))
                left -= 8 + length
                if left < 0 or length > MAX_TEXT_BYTES:
                    raise self._damaged(f"its metadata {key!r}[{number}] is too long")
                texts.append(read(length).decode())
        except (UnicodeDecodeError, struct.error) as error:
            raise self._damaged(f"its metadata {key!r}[{number}] is not valid UTF-8") from error
        self._position = self._file.tell()
        return texts

    def _tensor_info(self) -> tuple[str, tuple[int, ...], Any, int]:
        name = self._text("the name of a tensor", _MAX_NAME_BYTES)
        (count,) = self._numbers("I")
        if not 1 <= count <= _MAX_DIMENSIONS:
            raise self._damaged(f"its tensor {name!r} has {count} dimensions")
        shape = tuple(reversed(self._numbers("Q" * count)))
        encoding, offset = self._numbers("IQ")
        if 0 in shape:
            raise self._damaged(f"its tensor {name!r} is empty")
        try:
            return name, shape, GGMLQuantizationType(encoding), offset
        except ValueError as error:
            raise ModelFileError(
                f"{self._path} has the tensor {name!r} in the unknown encoding {encoding}. "
                "Download the model in another encoding, such as Q4_K_M or Q8_0."
            ) from error

    def _place(
        self, infos: list[tuple[str, tuple[int, ...], Any, int]], alignment: int
    ) -> tuple[Tensor, ...]:
        # Each tensor begins where the one before it ends, as ggml itself requires.
        start = self._position + -self._position % alignment
        end, seen, tensors = 0, set[str](), []
        for name, shape, encoding, offset in infos:
            if name in seen:
                raise self._damaged(f"it has the tensor {name!r} twice")
            seen.add(name)
            block, block_bytes = GGML_QUANT_SIZES[encoding]
            expected = end + -end % alignment
            if shape[-1] % block or offset != expected:
                fault = (
                    f"rows of {shape[-1]} elements, but blocks of {block}"
                    if shape[-1] % block
                    else f"the offset {offset} instead of {expected}"
                )
                raise self._damaged(f"its tensor {name!r} has {fault}")
            stored = math.prod(shape) // block * block_bytes
            tensors.append(Tensor(self._path, name, shape, encoding, start + offset, stored))
            end = offset + stored
        if self._size < start + end and infos:
            raise ModelFileError(
                f"{self._path} is truncated: {self._size:,} bytes of at least {start + end:,}. "
                "Download it again."
            )
        return tuple(tensors)

    def _find_alignment(self, metadata: dict[str, Any], raw: dict[str, bytes]) -> int:
        key = "general.alignment"
        if key not in metadata:
            return _DEFAULT_ALIGNMENT
        alignment = metadata[key]
        # The type is in front of the value.
        if raw[key][-8:-4] != struct.pack("<I", _UINT32) or alignment % 8 or alignment < 8:
            raise self._damaged(f"its metadata {key!r} is not a multiple of 8")
        if alignment.bit_count() != 1:
            raise self._damaged(f"its metadata {key!r} is not a power of two")
        return int(alignment)

    def _text(self, what: str, most: int) -> str:
        (length,) = self._numbers("Q")
        self._limit(length, most, f"bytes in {what}")
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise self._damaged(f"{what} is not valid UTF-8") from error

    def _numbers(self, form: str) -> tuple[Any, ...]:
        layout = struct.Struct("<" + form)
        return layout.unpack(self._take(layout.size))

    def _take(self, count: int) -> bytes:
        self._require(count)
        data = self._file.read(count)
        if len(data) < count:  # it has become shorter
            raise self._damaged("its header cannot be read")
        self._position += count
        return data

    def _require(self, count: int) -> None:
        self._limit(self._position + count, MAX_HEADER_BYTES, "bytes in its header")
        if self._position + count > self._size:
            raise self._damaged("its header cannot be read")

    def _reread(self, begin: int) -> bytes:
        self._file.seek(begin)
        return self._file.read(self._position - begin)

    def _limit(self, count: int, most: int, what: str) -> None:
        if count > most:
            raise self._damaged(f"it claims {count:,} {what}, of at most {max(most, 0):,}")

    def _damaged(self, detail: str) -> ModelFileError:
        return ModelFileError(f"{self._path} is truncated or damaged: {detail}. Download it again.")
