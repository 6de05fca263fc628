"""The bytes of tokens in vocabularies of byte-level BPE and of byte fallback."""

import pytest
from tokenizers import pre_tokenizers

from maxgate.prompts.token_bytes import parse_token_bytes


@pytest.mark.parametrize(
    ("token", "data"),
    [("Hi", b"Hi"), ("\u0120Hi", b" Hi"), ("<0xE2>", b"\xe2"), ("\u2581Hi", None), ("", b"")],
)
def test_tokens(token: str, data: bytes | None) -> None:
    """Tokens that are not written as bytes have none."""
    assert parse_token_bytes(token) == data


def test_every_byte() -> None:
    """The characters of byte-level BPE stand for the bytes that its encoder writes so."""
    encoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    text = "".join(map(chr, range(0x20, 0x800))) + "\u20ac\U0001f9a9"
    [(written, _)] = encoder.pre_tokenize_str(text)
    assert parse_token_bytes(written) == text.encode()
    assert len({parse_token_bytes(one) for one in pre_tokenizers.ByteLevel.alphabet()}) == 256
