"""Events come out the same, however their bytes were split on the way."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.net.event_stream import EventStreamDecoder

STREAM = (
    b'data: {"a": 1}\n\n: keep-alive\n\nevent: x\r\ndata: two\r\ndata:lines\r\n\r\n'
    b"retry: 5\rdata: \xe2\x82\xac\r\rid: 7\n\ndata\n\ndata: [DONE]\n\n"
)
EVENTS = [b'{"a": 1}', b"two\nlines", "€".encode(), b"", b"[DONE]"]


def decode(pieces: list[bytes]) -> list[bytes]:
    decoder = EventStreamDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_all_forms_of_the_standard() -> None:
    assert decode([STREAM]) == EVENTS


def test_byte_by_byte() -> None:
    assert decode([bytes([byte]) for byte in STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20).map(sorted))
def test_any_split_gives_the_same_events(cuts: list[int]) -> None:
    bounds = [0, *cuts, len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(bounds)]
    assert decode(pieces) == EVENTS


@pytest.mark.parametrize("received", [b"data: half an event\n", b"data: x", b"\n", b":\n"])
def test_what_is_not_complete_is_no_event(received: bytes) -> None:
    assert decode([received]) == []
