"""The bytes of generated tokens, which MAX does not report.

A token may be part of a character. MAX decodes each token by itself, so such a part arrives as
U+FFFD; its bytes come from the tokenizer, by the token's id.
"""

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from math import nan
from typing import Final

from maxgate.generation.chunk import REPLACEMENT_CHARACTER, Chunk, TokenLogprob

TokenToBytes = Callable[[int], bytes | None]

# A byte of a tokenizer with byte fallback, such as <0xE2>.
_BYTE_TOKEN: Final = re.compile(r"<0x([0-9A-F]{2})>")


def _map_byte_level_characters() -> dict[str, int]:
    # Byte-level BPE (GPT-2) writes printable Latin-1 bytes as themselves, and the others, in order,
    # as the characters from U+0100.
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(0x100 + number): byte for number, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted


_BYTE_LEVEL: Final = _map_byte_level_characters()


def parse_token_bytes(token: str) -> bytes | None:
    """Return the bytes of a token as written in a vocabulary; None if it is not made of bytes."""
    if found := _BYTE_TOKEN.fullmatch(token):
        return bytes([int(found[1], 16)])
    values = [_BYTE_LEVEL.get(character) for character in token]
    return None if None in values else bytes([value for value in values if value is not None])


async def add_token_bytes(
    chunks: AsyncGenerator[Chunk], token_to_bytes: TokenToBytes
) -> AsyncGenerator[Chunk]:
    """Add the bytes of tokens that are parts of a character to the logprobs of the chunks."""
    async with aclosing(chunks):
        async for chunk in chunks:
            if any(REPLACEMENT_CHARACTER in one.token for one in chunk.logprobs):
                added = tuple([_add_bytes(one, token_to_bytes) for one in chunk.logprobs])
                yield replace(chunk, logprobs=added)
            else:
                yield chunk


async def complete_prompt_logprobs(
    chunks: AsyncGenerator[Chunk], first_token: int, token_to_bytes: TokenToBytes
) -> AsyncGenerator[Chunk]:
    """Add the first token of the prompt, and bytes as `add_token_bytes`, to `prompt_logprobs`."""
    data = token_to_bytes(first_token) or b""
    first = TokenLogprob(data.decode(errors="replace"), nan, (), first_token, data)
    async with aclosing(chunks):
        async for chunk in chunks:
            others = tuple([_add_bytes(one, token_to_bytes) for one in chunk.prompt_logprobs])
            yield replace(chunk, prompt_logprobs=(first, *others))


def _add_bytes(logprob: TokenLogprob, token_to_bytes: TokenToBytes) -> TokenLogprob:
    if logprob.id is None or REPLACEMENT_CHARACTER not in logprob.token:
        return logprob
    data = token_to_bytes(logprob.id)
    if data is None or data.decode(errors="replace") != logprob.token:
        return logprob  # not the id of this token
    return logprob._replace(data=data)
