"""Two responses are compared token by token."""

from collections.abc import Iterator

import pytest

from maxgate.canary.samples import Difference, ResponseRecorder, Times, compare
from maxgate.generation.chunk import Chunk, FinishReason, Usage


def record(
    ids: tuple[int, ...], text: str = "", reason: FinishReason | None = "stop"
) -> ResponseRecorder:
    """Record a plain response."""
    recorder = ResponseRecorder(lambda: 0.0, stream=False)
    recorder.add(Chunk(text or "a" * len(ids), reason, token_ids=ids))
    return recorder


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (record((1, 2, 3)), record((1, 2, 3)), Difference(1.0, None)),
        (record((1, 2, 3, 4)), record((1, 2, 9)), Difference(0.5, 2)),
        (record((1, 2)), record((1, 2, 3)), Difference(1.0, 2)),
        (record((1, 2, 3, 4)), record((1,)), Difference(0.25, 1)),
        (record((1, 2), "a"), record((1, 2, 9), "a"), Difference(1.0, None)),  # an end token
        (record((1, 2), "a"), record((1, 2, 9), "a", "length"), Difference(1.0, 2)),
        (record((1, 2), reason=None), record((1, 2, 3)), Difference(1.0, None)),
        (record((1, 2), reason=None), record((1, 9, 3)), Difference(0.5, 1)),
        (record((), "same"), record((1, 2), "same"), Difference(1.0, None)),
        (record((), "abcd"), record((), "abxd"), Difference(0.5, 2)),
        (record(()), record(()), Difference(1.0, None)),
        (record(()), record((1,)), Difference(0.0, 0)),
    ],
)
def test_compare(old: ResponseRecorder, new: ResponseRecorder, expected: Difference) -> None:
    """Equal up to the shorter end, or different at a position; text is the last resort."""
    assert compare(old, new) == expected


@pytest.fixture
def ticks() -> Iterator[float]:
    """Times in seconds: 0, 1, 2 ..."""
    return iter(map(float, range(100)))


def test_times_of_stream(ticks: Iterator[float]) -> None:
    """A stream has a first-token time, and a time for each token after it."""
    recorder = ResponseRecorder(lambda: next(ticks), stream=True)
    recorder.add(Chunk("", usage=Usage(3, 0)))  # no token
    for number in range(4):
        recorder.add(Chunk("a", token_ids=(number,)))
    recorder.add(Chunk(usage=Usage(3, 4)))
    assert recorder.times == Times(ttft=1, tpot=1)


def test_times_of_plain_response(ticks: Iterator[float]) -> None:
    """A plain response has a time per token, also if the engine reports no ids."""
    recorder = ResponseRecorder(lambda: next(ticks), stream=False)
    recorder.add(Chunk("abc", "stop", Usage(3, 4)))
    assert recorder.times == Times(time_per_token=0.25)


def test_no_tokens() -> None:
    """A response without tokens has no times."""
    assert ResponseRecorder(lambda: 0.0, stream=True).times == Times()
