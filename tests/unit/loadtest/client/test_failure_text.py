"""The reason of a failed request in words."""

import pytest

from maxgate.loadtest.client.failure_text import extract_message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no room", "code": 429}}', "no room"),
        (b'{"error": "no room"}', "no room"),
        (b'{"object": "error", "message": "no room"}', "no room"),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
        (b'{"code": 7}', '{"code": 7}'),
        (b"<html><style>p {}</style><h1>502 Bad\n Gateway</h1></html>", "502 Bad Gateway"),
        (b"\x1b[31mred\x07 \xff", "[31mred \ufffd"),
        (b"x" * 5000, "x" * 297 + "..."),
        (b"", ""),
    ],
)
def test_message(body: bytes, message: str) -> None:
    """The message of an error in any usual form is one printable line of bounded length."""
    assert extract_message(body) == message
