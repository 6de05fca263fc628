"""The pace of a stream is measured from the tokens that its reader counts."""

import pytest

from maxgate.upstream.latency import StreamPace
from maxgate.upstream.replica import Replica


class Sent:
    """An attempt at a replica, with the body of its stream and the count of its tokens."""

    def __init__(self, replica: Replica | None = None, started_at: float = 90.0) -> None:
        self.replica = replica or Replica("http://a")
        self.started_at = started_at
        self.completion_tokens = 1
        self.is_waiting = True

    def start(self, now: float = 100.0) -> StreamPace:
        """Return the pace of a stream whose first token arrives now."""
        return StreamPace(self, self, self, now)


def test_running_stream() -> None:
    """Each part counts on its own: a stream that slows down is slow at once."""
    sent = Sent()
    pace = sent.start()
    sent.completion_tokens += 50
    assert pace.measure(101.0) == 0.02
    sent.completion_tokens += 5
    assert pace.measure(102.0) == 0.2


def test_no_token() -> None:
    """Without a token, the wait so far counts, and goes on."""
    sent = Sent()
    pace = sent.start()
    assert [pace.measure(101.0), pace.measure(102.0)] == [1.0, 2.0]
    sent.completion_tokens += 1
    assert [pace.measure(103.0), pace.measure(104.0)] == [3.0, 1.0]


def test_short_part() -> None:
    """A stream that has just begun is measured the next time."""
    sent = Sent()
    pace = sent.start()
    assert pace.measure(100.1) is None
    sent.completion_tokens += 4
    assert pace.measure(101.0) == 0.25


def test_slow_client() -> None:
    """Parts of a stream that waits for its client do not count."""
    sent = Sent()
    pace = sent.start()
    sent.completion_tokens, sent.is_waiting = 3, False
    assert pace.measure(101.0) is None
    sent.completion_tokens = 20
    assert pace.finish(110.0) is None
    sent.is_waiting = True
    assert pace.measure(103.0) == 2.0 / 17
    sent.completion_tokens = 30
    assert pace.finish(104.0) == 0.1


@pytest.mark.parametrize(
    ("tokens", "seconds", "pace"),
    [(20, 0.4, 0.02), (4, 0.1, 0.025), (3, 0.1, None), (3, 0.6, 0.2), (0, 5.0, None)],
)
def test_end(tokens: int, seconds: float, pace: float | None) -> None:
    """A stream that ends counts, unless it was short and had few tokens."""
    sent = Sent()
    stream = sent.start()
    sent.completion_tokens += tokens
    assert stream.finish(100.0 + seconds) == (None if pace is None else pytest.approx(pace))


def test_short_rest() -> None:
    """A stream that ends soon after a measurement counts with the part before."""
    sent = Sent()
    stream = sent.start()
    sent.completion_tokens += 5
    assert [stream.measure(101.0), stream.finish(101.1)] == [0.2, 0.2]
    sent.completion_tokens += 20
    assert stream.finish(103.0) == 0.1
    sent.is_waiting = False
    stream.measure(103.0)
    sent.is_waiting = True
    stream.measure(103.1)
    assert stream.finish(103.1) is None
