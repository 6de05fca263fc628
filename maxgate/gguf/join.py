"""Joining the parts of a split GGUF model: MAX loads a single file."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.header import open_regular
from maxgate.gguf.reader import GGUFFile

_VERSION: Final = 3
_CHUNK_BYTES: Final = 16 * 2**20


def count_joined_bytes(file: GGUFFile) -> int:
    """Return the size of the joined tensors, without the header."""
    return sum(tensor.stored_bytes for tensor in file.tensors)


def write_joined(file: GGUFFile, target: Path) -> Iterator[int]:
    """Write all tensors to one file, with the first part's metadata; yields each write's bytes.

    Raises ModelFileError if a part has become shorter, and OSError if `target` cannot be written.
    """
    alignment = file.get("general.alignment", 32)
    with target.open("wb") as out:
        out.write(_build_header(file, alignment))
        for tensor in file.tensors:
            out.write(bytes(-out.tell() % alignment))
            left = tensor.stored_bytes
            with open_regular(tensor.path) as part:
                part.seek(tensor.offset)
                while left:
                    data = part.read(min(left, _CHUNK_BYTES))
                    if not data:
                        raise ModelFileError(f"{tensor.path} is truncated inside {tensor.name}.")
                    out.write(data)
                    left -= len(data)
                    yield len(data)


def _build_header(file: GGUFFile, alignment: int) -> bytes:
    metadata = [raw for key, raw in file.parts[0].raw.items() if not key.startswith("split.")]
    header = b"GGUF" + struct.pack("<IQQ", _VERSION, len(file.tensors), len(metadata))
    infos, offset = [], 0
    for tensor in file.tensors:
        name, shape = tensor.name.encode(), tensor.shape[::-1]
        offset += -offset % alignment
        infos.append(
            struct.pack("<Q", len(name))
            + name
            + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, tensor.encoding, offset)
        )
        offset += tensor.stored_bytes
    header += b"".join([*metadata, *infos])
    return header + bytes(-len(header) % alignment)
