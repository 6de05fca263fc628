"""Read scenario files line by line or record by record, plain or gzip-compressed.

Memory is bounded for damaged and hostile files: a line or record has a maximum size, and compressed
data a maximum expansion.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader, RawIOBase, UnsupportedOperation
from pathlib import Path
from typing import Any, Final

import orjson
from typing_extensions import Buffer, override

from maxgate.errors import ConfigurationError
from maxgate.loadtest.scenarios.json_array import MAX_RECORD_BYTES, ArrayScanner

_MAX_EXPANSION: Final = 50  # text compresses by a factor of 3 to 20
_MAX_SMALL_EXPANSION_BYTES: Final = 16 * 2**20
_READ_BYTES: Final = 2**20
_GZIP_MAGIC: Final = b"\x1f\x8b"
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_FOREIGN_FORMATS: Final = {
    b"PAR1": "a Parquet file; convert it to JSONL or CSV",
    b"PK\x03\x04": "a zip archive or spreadsheet; extract it or save it as CSV",
    b"\x28\xb5\x2f\xfd": "zstd-compressed; decompress it, or use gzip",
    b"BZh": "bzip2-compressed; decompress it, or use gzip",
    b"\xfd7zXZ": "xz-compressed; decompress it, or use gzip",
    b"ARROW1": "an Arrow file; convert it to JSONL or CSV",
    b"\xff\xfe": "encoded as UTF-16; save it as UTF-8",
    b"\xfe\xff": "encoded as UTF-16; save it as UTF-8",
}


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One JSON value of a file, as parsed and as bytes."""

    where: str
    """Start of an error message, such as `--scenario a.jsonl:3`."""
    text: bytes
    value: Any


class _LimitedReader(RawIOBase):
    """Reads decompressed data, at most a multiple of the compressed size."""

    def __init__(self, source: gzip.GzipFile, compressed_size: int) -> None:
        self._source = source
        self._left = max(_MAX_SMALL_EXPANSION_BYTES, compressed_size * _MAX_EXPANSION)

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data = self._source.read(len(view))
        self._left -= len(data)
        if self._left < 0:
            raise UnsupportedOperation(
                f"expands to more than {_MAX_EXPANSION} times its size; decompress it first"
            )
        view[: len(data)] = data
        return len(data)


class SourceFile:
    """A scenario file; all methods raise ConfigurationError with the file and line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = f"--scenario {path}"

    def read_start(self) -> bytes:
        """The first kilobytes, without leading space."""
        with self._open() as file:
            return file.read(_READ_BYTES // 16).removeprefix(_UTF8_BOM).lstrip()

    def read_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield each line that is not blank with its number from 1, without its line ending."""
        with self._open() as file:
            number = 0
            while line := file.readline(MAX_RECORD_BYTES + 1):
                number += 1
                if len(line) > MAX_RECORD_BYTES:
                    raise ConfigurationError(
                        f"{self.name}:{number}: longer than {MAX_RECORD_BYTES // 2**20} MiB; "
                        "the file is damaged, or has no line breaks"
                    )
                if number == 1:
                    line = line.removeprefix(_UTF8_BOM)
                if stripped := line.rstrip(b"\r\n"):
                    yield number, stripped

    def read_records(self) -> Iterator[SourceRecord]:
        """Yield each element of a JSON array, or each line of JSONL."""
        start = self.read_start()
        if start.startswith(b"[") and not _is_complete_line(start):
            yield from self._read_array()
            return
        for number, line in self.read_lines():
            where = f"{self.name}:{number}"
            if line.strip():
                yield SourceRecord(where, line, _parse_json(line, where))

    def read_all(self, max_bytes: int) -> bytes:
        """The whole content, of at most this size."""
        with self._open() as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise ConfigurationError(f"{self.name}: larger than {max_bytes // 2**20} MiB")
        return content.removeprefix(_UTF8_BOM)

    def _read_array(self) -> Iterator[SourceRecord]:
        """Decode one element at a time: an array may be larger than the memory."""
        scanner = ArrayScanner(self.name, self._read_text())
        for number, text in enumerate(scanner.split(), 1):
            where = f"{self.name}: record {number}"
            encoded = text.encode()
            yield SourceRecord(where, encoded, _parse_json(encoded, where))

    def _read_text(self) -> Iterator[str]:
        """Yield the content in pieces, without the byte order mark."""
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        with self._open() as file:
            try:
                while data := file.read(_READ_BYTES):
                    yield decoder.decode(data)
                yield decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                raise ConfigurationError(f"{self.name}: not UTF-8 ({error.reason})") from error

    @contextmanager
    def _open(self) -> Iterator[BufferedReader]:
        try:
            if not self.path.is_file():
                kind = "a folder" if self.path.is_dir() else "not a regular file"
                raise ConfigurationError(f"{self.name}: {kind}; several processes read the file")
            with self.path.open("rb") as file:
                start = file.peek(8)[:8]
                for magic, reason in _FOREIGN_FORMATS.items():
                    if start.startswith(magic):
                        raise ConfigurationError(f"{self.name}: {reason}")
                if not start.startswith(_GZIP_MAGIC):
                    yield file
                    return
                with gzip.GzipFile(fileobj=file) as compressed:
                    limited = _LimitedReader(compressed, self.path.stat().st_size)
                    yield BufferedReader(limited, 2**16)
        except UnsupportedOperation as error:
            raise ConfigurationError(f"{self.name}: {error}") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ConfigurationError(f"{self.name}: damaged gzip data ({error})") from error
        except OSError as error:
            raise ConfigurationError(f"{self.name}: {error.strerror or error}") from error


def _is_complete_line(start: bytes) -> bool:
    """Whether the first line is a whole list of messages, as in JSONL, followed by another."""
    line, newline, rest = start.partition(b"\n")
    if not newline or not rest.lstrip().startswith((b"[", b"{")):
        return False
    try:
        return isinstance(orjson.loads(line), list)
    except orjson.JSONDecodeError:
        return False


def _parse_json(text: bytes, where: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"{where}: invalid JSON: {error}") from error
