"""Random damage to GGUF files, of the kinds that downloads, disks and converters do."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gguf import GGMLQuantizationType

from maxgate.gguf.header import read_header
from tests.fakes.gguf_files import TOKENS, write_llama

_NUMBERS: Final = (0, 1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)
_LLAMA3: Final = (
    *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>", "<|python_tag|>"),
)

Damage = Callable[[random.Random, bytearray, int], None]


def write_sources(folder: Path) -> list[Path]:
    """Write models of several encodings; the last one is split into three files."""
    kinds = GGMLQuantizationType
    tokens = [*TOKENS, *_LLAMA3]
    write_llama(folder / "f32.gguf", tokens=tokens)
    write_llama(folder / "q8_0.gguf", encoding=kinds.Q8_0, without={"output.weight"})
    write_llama(folder / "q4_k.gguf", encoding=kinds.Q4_K, output_encoding=kinds.Q6_K)
    write_llama(folder / "split.gguf", encoding=kinds.Q4_K, tensors_per_file=8)
    names = ["f32", "q8_0", "q4_k", *(f"split-{n:05d}-of-00003" for n in (1, 2, 3))]
    return [folder / f"{name}.gguf" for name in names]


def count_header_bytes(file: Path) -> int:
    """Return the size of a sound file's header."""
    return min(tensor.offset for tensor in read_header(file).tensors)


def truncate(draw: random.Random, content: bytearray, header: int) -> None:
    """Cut the end off."""
    del content[draw.randrange(draw.choice((header, len(content)))) :]


def flip_header_bits(draw: random.Random, content: bytearray, header: int) -> None:
    """Flip a few bits of the header."""
    for _ in range(draw.choice((1, 1, 2, 8))):
        content[draw.randrange(header)] ^= 1 << draw.randrange(8)


def flip_bits(draw: random.Random, content: bytearray, header: int) -> None:
    """Flip bits anywhere."""
    for _ in range(draw.choice((1, 4, 64))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def overwrite_number(draw: random.Random, content: bytearray, header: int) -> None:
    """Write a number of 4 or 8 bytes to the header."""
    size = draw.choice((4, 8))
    position = draw.randrange(header - size)
    number = draw.choice(_NUMBERS) % 2 ** (8 * size)
    content[position : position + size] = number.to_bytes(size, "little")


def overwrite_count(draw: random.Random, content: bytearray, header: int) -> None:
    """Change the version, the number of tensors or that of metadata values."""
    position = draw.choice((4, 8, 16))
    number = draw.choice((*_NUMBERS, draw.randrange(64)))
    content[position : position + 8] = struct.pack("<Q", number)


def overwrite_value(draw: random.Random, content: bytearray, header: int) -> None:
    """Change the type or value of one key of the metadata, or an info of one tensor."""
    names = (b"llama.", b"tokenizer.", b"general.", b"blk.", b"output", b"token_embd", b"split.")
    found = [
        position
        for name in names
        for position in range(header)
        if content.startswith(name, position)
    ]
    position = draw.choice(found)
    end = position + struct.unpack_from("<Q", content, position - 8)[0] if position >= 8 else 0
    step = draw.choice((0, 4, 8, 12, 16, 20, 24))
    number = draw.choice((*_NUMBERS, draw.randrange(256)))
    size = draw.choice((1, 4, 8))
    start = min(max(end, 0) + step, header - size)
    content[start : start + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")


def splice(draw: random.Random, content: bytearray, header: int) -> None:
    """Move, repeat or remove a piece of the header."""
    size = draw.choice((1, 8, 64, 512))
    start, target = draw.randrange(header), draw.randrange(header)
    piece = content[start : start + size]
    match draw.randrange(3):
        case 0:
            content[target : target + len(piece)] = piece
        case 1:
            content[target:target] = piece
        case _:
            del content[start : start + size]


def zero(draw: random.Random, content: bytearray, header: int) -> None:
    """Leave a hole, as an interrupted parallel download does."""
    start = draw.randrange(draw.choice((header, len(content))))
    size = min(draw.choice((8, 512, 4096, 2**20)), len(content) - start)
    content[start : start + size] = bytes(size)


def append(draw: random.Random, content: bytearray, header: int) -> None:
    """Add bytes to the end."""
    content += draw.randbytes(draw.randrange(1, 10_000))


def swap_bytes(draw: random.Random, content: bytearray, header: int) -> None:
    """Exchange two numbers of the header."""
    size = draw.choice((4, 8))
    first, second = (draw.randrange(header // size) * size for _ in range(2))
    one, other = content[first : first + size], content[second : second + size]
    content[first : first + size], content[second : second + size] = other, one


DAMAGES: Final[tuple[Damage, ...]] = (
    truncate,
    flip_header_bits,
    flip_bits,
    overwrite_number,
    overwrite_count,
    overwrite_value,
    splice,
    zero,
    append,
    swap_bytes,
)
