"""Logprobs in OpenAI's shape."""

from maxgate.api.chat.responses import convert_logprobs
from maxgate.generation.chunk import Alternative, TokenLogprob


def test_logprob_bytes() -> None:
    """The bytes are the token's own, and null for parts of a character that are unknown."""
    top = (Alternative("\ufffd", -0.5), Alternative("\ufffd", -1.5), Alternative("é", -2.5))
    tokens = [TokenLogprob("\ufffd", -0.5, top, 9, b"\xf0\x9f"), TokenLogprob("\ufffd", -0.5)]
    known = {"token": "\ufffd", "logprob": -0.5, "bytes": [0xF0, 0x9F]}
    assert convert_logprobs(tokens) == {
        "content": [
            {
                **known,
                "top_logprobs": [
                    known,
                    {"token": "\ufffd", "logprob": -1.5, "bytes": None},
                    {"token": "é", "logprob": -2.5, "bytes": [0xC3, 0xA9]},
                ],
            },
            {"token": "\ufffd", "logprob": -0.5, "bytes": None, "top_logprobs": []},
        ],
        "refusal": None,
    }
