"""Events are decoded the same, however their bytes are split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.net.event_stream import EventStreamDecoder, EventTooLargeError

STREAM = (
    b'data: {"a": 1}\n\n: keep-alive\n\nevent: x\r\ndata: two\r\ndata:lines\r\n\r\n'
    b"retry: 5\rdata: \xe2\x82\xac\r\rid: 7\n\ndata\n\ndata: [DONE]\n\n"
)
EVENTS = [b'{"a": 1}', b"two\nlines", "€".encode(), b"", b"[DONE]"]


def decode(pieces: list[bytes]) -> list[bytes]:
    """Decode the pieces with one decoder."""
    decoder = EventStreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_standard_forms() -> None:
    """All line endings, comments, other fields and multi-line data are understood."""
    assert decode([STREAM]) == EVENTS


def test_byte_order_mark() -> None:
    """A byte-order mark at the start of the stream is skipped."""
    assert decode([b"\xef\xbb\xbf" + STREAM]) == EVENTS


def test_endless_event() -> None:
    """An event larger than the limit is an error."""
    with pytest.raises(EventTooLargeError):
        decode([b"data: ", *[bytes(1_000_000)] * 5])


def test_single_bytes() -> None:
    """Bytes that arrive one by one give the same events."""
    assert decode([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20).map(sorted))
def test_any_split(cuts: list[int]) -> None:
    """Every way to split the bytes gives the same events."""
    bounds = [0, *cuts, len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(bounds)]
    assert decode(pieces) == EVENTS


@pytest.mark.parametrize("received", [b"data: half an event\n", b"data: x", b"\n", b":\n"])
def test_incomplete_event(received: bytes) -> None:
    """An event without its empty line is not returned."""
    assert decode([received]) == []
