"""Replicas that are far slower than their peers are left and ejected."""

from maxgate.upstream.replica import Replica
from maxgate.upstream.settings import FailoverSettings
from maxgate.upstream.traffic import ModelTraffic

A, B, C = (Replica(f"http://{name}") for name in "abc")


class FakeAttempt:
    """An attempt that waits since `started_at`."""

    def __init__(
        self,
        started_at: float,
        *,
        stream: bool = True,
        tokens: int = 1,
        replica: Replica = A,
    ) -> None:
        self.replica = replica
        self.started_at = started_at
        self.stream = stream
        self.tokens = tokens
        self.moved = False

    def end_wait(self) -> None:
        """Note that the call would move."""
        self.moved = True


def create_traffic(latencies: dict[Replica, float], *, stream: bool = True) -> ModelTraffic:
    """Return traffic with 100 responses of each replica before 100 s."""
    traffic = ModelTraffic(FailoverSettings())
    for number in range(100):
        for place, (replica, seconds) in enumerate(latencies.items()):
            traffic.breaker(replica)
            now = 99 + number / 100 + place / 500
            traffic.add_latency(replica, now, seconds, stream=stream)
    return traffic


def test_overdue_stream() -> None:
    """A stream moves after three times the P99 of the model, but not before a second."""
    traffic = create_traffic({A: 0.5, B: 0.5})
    early, late = FakeAttempt(98.6), FakeAttempt(98.4)
    traffic.waiting |= {early, late}
    traffic.interrupt_overdue(100.0)
    assert (early.moved, late.moved) == (False, True)


def test_minimum_deadline() -> None:
    """Fast models have a deadline of a second."""
    traffic = create_traffic({A: 0.01, B: 0.01})
    early, late = FakeAttempt(99.1), FakeAttempt(98.9)
    traffic.waiting |= {early, late}
    traffic.interrupt_overdue(100.0)
    assert (early.moved, late.moved) == (False, True)


def test_overdue_response() -> None:
    """A response that is not streamed has the time of all its tokens, if their limit is known."""
    traffic = create_traffic({A: 0.02, B: 0.02}, stream=False)
    short = FakeAttempt(95.0, stream=False, tokens=50)
    long = FakeAttempt(95.0, stream=False, tokens=100)
    unlimited = FakeAttempt(0.0, stream=False, tokens=0)
    traffic.waiting |= {short, long, unlimited}
    traffic.interrupt_overdue(100.0)
    assert (short.moved, long.moved, unlimited.moved) == (True, False, False)


def test_silent_replica() -> None:
    """A response without a limit moves if its replica has sent nothing since it was requested."""
    traffic, alive, silent = create_traffic({}), Replica("http://alive"), Replica("http://silent")
    alive.activity.at, silent.activity.at = 99.0, 90.0
    for number in range(100):
        traffic.add_duration(99 + number / 100, 1.0)
    patient = FakeAttempt(95.0, stream=False, tokens=0, replica=alive)
    overdue = FakeAttempt(95.0, stream=False, tokens=0, replica=silent)
    early = FakeAttempt(97.5, stream=False, tokens=0, replica=silent)
    traffic.waiting |= {patient, overdue, early}
    traffic.interrupt_overdue(100.0)
    assert (patient.moved, overdue.moved, early.moved) == (False, True, False)


def test_too_few_samples() -> None:
    """Without enough responses, nothing is overdue."""
    traffic = ModelTraffic(FailoverSettings())
    traffic.add_latency(A, 99.0, 0.01, stream=True)
    attempt = FakeAttempt(0.0)
    traffic.waiting.add(attempt)
    traffic.interrupt_overdue(100.0)
    assert not attempt.moved


def test_slow_waits() -> None:
    """Streams that wait far longer than usual get their replica ejected before they respond."""
    traffic = create_traffic({A: 0.1, B: 0.1, C: 0.1})
    traffic.waiting |= {FakeAttempt(99.6, replica=B) for _ in range(9)}
    traffic.eject_slow(100.0)
    assert traffic.breaker(B).state(100.0) == "closed"
    traffic.waiting |= {FakeAttempt(99.6, replica=B), FakeAttempt(99.8, replica=C)}
    traffic.eject_slow(100.0)
    states = [traffic.breaker(replica).state(100.0) for replica in (A, B, C)]
    assert states == ["closed", "open", "closed"]


def test_slow_responses() -> None:
    """Responses that are not streamed are compared by their time per token."""
    traffic = create_traffic({A: 0.01, B: 0.04, C: 0.01}, stream=False)
    traffic.eject_slow(100.0)
    assert traffic.breaker(B).state(100.0) == "open"
    traffic = create_traffic({A: 0.01, B: 0.01, C: 0.01}, stream=False)
    traffic.waiting |= {FakeAttempt(99.6, stream=False, tokens=10, replica=B) for _ in range(10)}
    traffic.waiting |= {FakeAttempt(99.6, stream=False, tokens=20, replica=C) for _ in range(10)}
    traffic.eject_slow(100.0)
    states = [traffic.breaker(replica).state(100.0) for replica in (A, B, C)]
    assert states == ["closed", "open", "closed"]


def test_overload() -> None:
    """Waits that are long at all replicas eject none of them."""
    traffic = create_traffic({A: 0.1, B: 0.1, C: 0.1})
    for replica, count in {A: 12, B: 20, C: 10}.items():
        traffic.waiting |= {FakeAttempt(99.0, replica=replica) for _ in range(count)}
    traffic.eject_slow(100.0)
    assert {traffic.breaker(replica).state(100.0) for replica in (A, B, C)} == {"closed"}


def test_slow_replica() -> None:
    """A replica more than three times as slow as its slowest peer is ejected."""
    traffic = create_traffic({A: 0.1, B: 0.2, C: 0.9})
    traffic.eject_slow(100.0)
    states = [traffic.breaker(replica).state(100.0) for replica in (A, B, C)]
    assert (states, traffic.restricted) == (["closed", "closed", "open"], True)
    assert traffic.filter_allowed([A, B, C], 100.0) == [A, B]


def test_small_latencies() -> None:
    """Differences of a few milliseconds do not eject a replica."""
    traffic = create_traffic({A: 0.001, B: 0.001, C: 0.1})
    traffic.eject_slow(100.0)
    assert not traffic.restricted


def test_already_ejected() -> None:
    """Late responses of an ejected replica do not eject it again."""
    traffic = create_traffic({A: 0.1, B: 0.1, C: 0.9})
    traffic.eject_slow(100.0)
    for number in range(50):
        traffic.add_latency(C, 100.1 + number / 100, 0.9, stream=True)
    traffic.eject_slow(101.0)
    assert traffic.breaker(C).trips == 1
    assert traffic.breaker(C).allows(102.0)


def test_removed() -> None:
    """Late responses of a removed replica are dropped: its peers are not compared with it."""
    traffic = create_traffic({A: 9.0, B: 0.1, C: 0.9})
    traffic.forget(A)
    for number in range(50):
        traffic.add_latency(A, 100 + number / 100, 9.0, stream=True)
    traffic.eject_slow(101.0)
    assert traffic.breaker(C).state(101.0) == "open"


def test_is_slow() -> None:
    """A single latency is compared with the medians of the other replicas."""
    traffic = create_traffic({A: 0.1, B: 0.2, C: 0.9})
    assert traffic.is_slow(C, 100.0, 0.7, stream=True)
    assert not traffic.is_slow(C, 100.0, 0.5, stream=True)
    assert not traffic.is_slow(C, 100.0, 0.7, stream=False)


def test_max_ejected_share() -> None:
    """At most half of the replicas are ejected for slowness."""
    traffic = create_traffic({A: 0.1, B: 9.0})
    traffic.eject_slow(100.0)
    assert [traffic.breaker(replica).state(100.0) for replica in (A, B)] == ["closed", "open"]
    alone = create_traffic({A: 0.1})
    alone.eject_slow(100.0)
    assert not alone.restricted
