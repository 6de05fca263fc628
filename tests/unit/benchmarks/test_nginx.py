"""Times of streams, and which responses refuse an attack."""

import pytest

from benchmarks.nginx.clients import StreamTimes, read_milliseconds
from tests.fakes.nginx_attacks import Attack, is_refused, list_attacks

SHAPE = b'{"error":{"message":"m","type":"t","param":null,"code":null}}'


def test_streams() -> None:
    """A stream counts as complete with its last event and without an error."""
    times = StreamTimes()
    for content in (
        b"data: {}\n\ndata: [DONE]\n\n",
        b"data: {}",
        b'data: {"error"}\n\ndata: [DONE]',
    ):
        times.add(1.0, [1.5, 1.75, 2.5], content)

    assert times == StreamTimes(1, [0.5] * 3, [0.25, 0.75] * 3)
    assert [read_milliseconds(times.gaps, percent) for percent in (0, 50, 99)] == [250, 750, 750]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, SHAPE, True),
        (0, b"", True),
        (200, SHAPE, False),
        (400, b"<html>", False),
        (400, b'{"error":{}}', False),
        (400, b"[]", False),
    ],
)
def test_refusals(status: int, body: bytes, expected: bool) -> None:
    """An attack is refused by one of its statuses in OpenAI's shape, or by a closed connection."""
    assert is_refused(Attack("name", b"", (400, 0)), status, body) is expected


def test_names() -> None:
    """Every attack has a name of its own."""
    names = [attack.name for attack in list_attacks()]
    assert len(set(names)) == len(names) > 80
