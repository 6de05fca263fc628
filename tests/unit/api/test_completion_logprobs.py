"""Logprobs of text completions in OpenAI's shape."""

from maxgate.api.completions.service import convert_text_logprobs
from maxgate.generation.chunk import TokenLogprob


def test_offsets() -> None:
    """Offsets count characters: a part of a character adds none until it is complete."""
    parts = [TokenLogprob("\ufffd", -0.5, data=bytes([byte])) for byte in "é".encode()]
    tokens = [TokenLogprob("ab", -0.5), *parts, TokenLogprob("c", -0.5)]
    assert convert_text_logprobs(tokens, 7).text_offset == [7, 9, 9, 10]
