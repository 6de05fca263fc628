"""Writing safetensors shards sequentially, in constant memory.

A file is an 8-byte little-endian length, a JSON header of that length, and the bytes of the
tensors. Large models are split into several files with an index (Hugging Face's `safetensors`
format and layout). The package `safetensors` needs all tensors of a file in memory.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

DType = Literal["F32", "BF16"]
_ITEM_BYTES: dict[DType, int] = {"F32": 4, "BF16": 2}
MAX_SHARD_BYTES = 4_900_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to write: its name, its shape and its rows in order."""

    name: str
    shape: tuple[int, ...]
    rows: Iterable[NDArray[np.float32]]

    def count_bytes(self, dtype: DType) -> int:
        """Return the size of the tensor in a file."""
        return int(np.prod(self.shape)) * _ITEM_BYTES[dtype]


def to_bytes(values: NDArray[np.float32], dtype: DType) -> bytes:
    """Encode values, little-endian; bfloat16 rounds to nearest, ties to even."""
    if dtype == "F32":
        return bytes(values.astype("<f4", copy=False).data)
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    # Rounding turns some NaNs into infinities, which does not matter for model weights.
    return bytes((rounded >> 16).astype("<u2").data)


def split_shards(entries: Sequence[Entry], dtype: DType, limit: int) -> list[list[Entry]]:
    """Group entries, in order, into shards of at most `limit` bytes."""
    groups: list[list[Entry]] = [[]]
    used = 0
    for entry in entries:
        size = entry.count_bytes(dtype)
        if groups[-1] and used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(entry)
        used += size
    return groups


def write_shards(
    directory: Path, entries: Sequence[Entry], dtype: DType, *, limit: int = MAX_SHARD_BYTES
) -> Iterator[int]:
    """Write `model*.safetensors`, and an index of several; yields the bytes of each write."""
    groups = split_shards(entries, dtype, limit)
    names = (
        ["model.safetensors"]
        if len(groups) == 1
        else [
            f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            for number in range(1, len(groups) + 1)
        ]
    )
    for name, group in zip(names, groups, strict=True):
        yield from _write_file(directory / name, group, dtype)
    if len(groups) > 1:
        index = {
            "metadata": {"total_size": sum(e.count_bytes(dtype) for e in entries)},
            "weight_map": {
                e.name: name for name, group in zip(names, groups, strict=True) for e in group
            },
        }
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def _write_file(path: Path, entries: Sequence[Entry], dtype: DType) -> Iterator[int]:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        end = offset + entry.count_bytes(dtype)
        header[entry.name] = {
            "dtype": dtype,
            "shape": entry.shape,
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for entry in entries:
            for rows in entry.rows:
                data = to_bytes(rows, dtype)
                file.write(data)
                yield len(data)
