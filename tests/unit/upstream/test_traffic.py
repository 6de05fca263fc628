"""Replicas that are far slower than their peers are left and ejected."""

from functools import partial

from maxgate.upstream.latency import LatencyKind
from maxgate.upstream.replica import Replica
from maxgate.upstream.settings import FailoverSettings
from maxgate.upstream.traffic import ModelTraffic
from tests.unit.upstream.test_latency import Sent

A, B, C = (Replica(f"http://{name}") for name in "abc")


class FakeAttempt:
    """An attempt that waits since `started_at`."""

    def __init__(
        self,
        started_at: float,
        *,
        kind: LatencyKind = "ttft",
        tokens: int = 1,
        replica: Replica = A,
    ) -> None:
        self.replica = replica
        self.started_at = started_at
        self.kind: LatencyKind = kind
        self.tokens = tokens
        self.moved = False

    def end_wait(self) -> None:
        """Note that the call would move."""
        self.moved = True


def create_traffic(latencies: dict[Replica, float], kind: LatencyKind = "ttft") -> ModelTraffic:
    """Return traffic with 100 responses of each replica before 100 s."""
    traffic = ModelTraffic(FailoverSettings())
    for number in range(100):
        for place, (replica, seconds) in enumerate(latencies.items()):
            traffic.breaker(replica)
            now = 99 + number / 100 + place / 500
            traffic.add_latency(kind, replica, now, seconds)
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
    traffic = create_traffic({A: 0.02, B: 0.02}, "tpot")
    short = FakeAttempt(95.0, kind="tpot", tokens=50)
    long = FakeAttempt(95.0, kind="tpot", tokens=100)
    unlimited = FakeAttempt(0.0, kind="tpot", tokens=0)
    traffic.waiting |= {short, long, unlimited}
    traffic.interrupt_overdue(100.0)
    assert (short.moved, long.moved, unlimited.moved) == (True, False, False)


def test_silent_replica() -> None:
    """A response without a limit moves if its replica has sent nothing since it was requested."""
    traffic, alive, silent = create_traffic({}), Replica("http://alive"), Replica("http://silent")
    alive.activity.at, silent.activity.at = 99.0, 90.0
    for number in range(100):
        traffic.add_duration(99 + number / 100, 1.0)
    patient = FakeAttempt(95.0, kind="tpot", tokens=0, replica=alive)
    overdue = FakeAttempt(95.0, kind="tpot", tokens=0, replica=silent)
    early = FakeAttempt(97.5, kind="tpot", tokens=0, replica=silent)
    traffic.waiting |= {patient, overdue, early}
    traffic.interrupt_overdue(100.0)
    assert (patient.moved, overdue.moved, early.moved) == (False, True, False)


def test_too_few_samples() -> None:
    """Without enough responses, nothing is overdue."""
    traffic = ModelTraffic(FailoverSettings())
    traffic.add_latency("ttft", A, 99.0, 0.01)
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
    traffic = create_traffic({A: 0.01, B: 0.04, C: 0.01}, "tpot")
    traffic.eject_slow(100.0)
    assert traffic.breaker(B).state(100.0) == "open"
    traffic = create_traffic({A: 0.01, B: 0.01, C: 0.01}, "tpot")
    traffic.waiting |= {FakeAttempt(99.6, kind="tpot", tokens=10, replica=B) for _ in range(10)}
    traffic.waiting |= {FakeAttempt(99.6, kind="tpot", tokens=20, replica=C) for _ in range(10)}
    traffic.eject_slow(100.0)
    states = [traffic.breaker(replica).state(100.0) for replica in (A, B, C)]
    assert states == ["closed", "open", "closed"]


def start_streams(
    traffic: ModelTraffic, replicas: dict[Replica, int], started_at: float = 100.0
) -> list[Sent]:
    """Start this many streams at each replica, with their first tokens at once."""
    sent = [Sent(replica, started_at) for replica, count in replicas.items() for _ in range(count)]
    for stream in sent:
        traffic.breaker(stream.replica)
        traffic.streams.add(stream.start(started_at))
    return sent


def run_streams(
    traffic: ModelTraffic, streams: list[Sent], rates: dict[Replica, int], seconds: range
) -> None:
    """Let the streams generate `rates` tokens per second, and measure them."""
    for second in seconds:
        for stream in streams:
            stream.completion_tokens += rates[stream.replica]
        traffic.measure_streams(float(second))
        traffic.eject_slow(float(second))


def test_slow_tokens() -> None:
    """Streams are compared by the time between their tokens, however fast their first one is."""
    traffic = create_traffic({A: 0.01, B: 0.04, C: 0.01}, "itl")
    traffic.eject_slow(100.0)
    states = [traffic.breaker(replica).state(100.0) for replica in (A, B, C)]
    assert states == ["closed", "open", "closed"]


def test_slow_running_streams() -> None:
    """Streams that become far slower get their replica ejected before they end."""
    traffic = ModelTraffic(FailoverSettings())
    streams = start_streams(traffic, {A: 5, B: 5, C: 5})
    run_streams(traffic, streams, {A: 50, B: 50, C: 50}, range(101, 111))
    assert not traffic.restricted
    run_streams(traffic, streams, {A: 50, B: 5, C: 50}, range(111, 113))
    assert not traffic.restricted
    run_streams(traffic, streams, {A: 50, B: 5, C: 50}, range(113, 114))
    states = [traffic.breaker(replica).state(113.0) for replica in (A, B, C)]
    assert states == ["closed", "open", "closed"]


def test_pause_of_streams() -> None:
    """A pause of two seconds, such as for a long prompt, does not eject a replica."""
    traffic = ModelTraffic(FailoverSettings())
    streams = start_streams(traffic, {A: 50, B: 50, C: 50})
    for start in (101, 115):
        run_streams(traffic, streams, {A: 50, B: 50, C: 50}, range(start, start + 10))
        run_streams(traffic, streams, {A: 50, B: 0, C: 50}, range(start + 10, start + 12))
        run_streams(traffic, streams, {A: 50, B: 50, C: 50}, range(start + 12, start + 14))
    assert not traffic.restricted


def test_loaded_replica() -> None:
    """A replica with many streams may be slower by as much as it has more of them."""
    busy, idle = Replica("http://busy"), Replica("http://idle")
    busy.in_flight, idle.in_flight = 39, 9
    create = partial(create_traffic, kind="itl")
    allowed, slow = create({busy: 0.115, idle: 0.01}), create({busy: 0.125, idle: 0.01})
    allowed.eject_slow(100.0)
    slow.eject_slow(100.0)
    assert (allowed.restricted, slow.restricted) == (False, True)
    reverse = create({busy: 0.01, idle: 0.035})
    reverse.eject_slow(100.0)
    assert reverse.breaker(idle).state(100.0) == "open"


def test_slow_trial() -> None:
    """A trial stream as slow as before opens the breaker again; older ones do not."""
    traffic = create_traffic({A: 0.02, B: 0.2, C: 0.02}, "itl")
    old = start_streams(traffic, {B: 9})
    traffic.eject_slow(100.0)
    run_streams(traffic, old, {B: 5}, range(101, 104))
    assert (traffic.breaker(B).state(103.0), traffic.breaker(B).trips) == ("half_open", 1)
    trial = start_streams(traffic, {B: 1}, started_at=103.0)
    run_streams(traffic, old + trial, {B: 5}, range(104, 105))
    assert (traffic.breaker(B).state(104.0), traffic.breaker(B).trips) == ("open", 2)


def test_fast_trial() -> None:
    """After slow tokens, a trial stream lets others follow when it is fast, not when it begins."""
    traffic = create_traffic({A: 0.02, B: 0.2, C: 0.02}, "itl")
    traffic.eject_slow(100.0)
    breaker = traffic.breaker(B)
    breaker.begin(103.0)
    trial = start_streams(traffic, {B: 1}, started_at=103.0)
    breaker.note_first_token(103.0)
    assert not breaker.allows(103.5)
    run_streams(traffic, trial, {B: 50}, range(104, 105))
    assert breaker.allows(104.0)
    assert (breaker.state(104.0), breaker.trips) == ("half_open", 1)


def test_ended_stream() -> None:
    """A stream that ends counts with its rest, unless it failed."""
    for failed in (False, True):
        traffic = create_traffic({A: 0.01, C: 0.01}, "itl")
        for stream in start_streams(traffic, {B: 10}):
            stream.completion_tokens += 20
        for pace in list(traffic.streams):
            traffic.end_stream(pace, 102.0, failed=failed)
        traffic.eject_slow(102.0)
        assert (traffic.streams, traffic.restricted) == (set(), not failed)


def test_removed_replica() -> None:
    """Streams that still run at a replica that was removed leave nothing behind."""
    traffic = create_traffic({A: 0.01, B: 0.01}, "itl")
    streams = start_streams(traffic, {C: 20})
    traffic.forget(C)
    run_streams(traffic, streams, {C: 1}, range(101, 104))
    for pace in list(traffic.streams):
        traffic.end_stream(pace, 104.0, failed=False)
    traffic.eject_slow(104.0)
    assert not traffic.restricted


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


def test_recovered_replica() -> None:
    """A replica that has just recovered is passed over at its limit, unless it is the only one."""
    traffic, now = create_traffic({}), 100.0
    breaker = traffic.breaker(A)
    breaker.eject(now, "failed")
    for _ in range(3):
        now += 2
        breaker.begin(now)
        breaker.succeed(now, now)
    assert traffic.filter_allowed([A, B], now) == [A, B]
    for _ in range(3):
        breaker.begin(now)
    assert traffic.filter_allowed([A, B], now) == [B]
    assert traffic.filter_allowed([A], now) == [A]
    assert traffic.restricted
    assert traffic.filter_allowed([A, B], now + 24) == [A, B]
    assert not traffic.restricted


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
        traffic.add_latency("ttft", C, 100.1 + number / 100, 0.9)
    traffic.eject_slow(101.0)
    assert traffic.breaker(C).trips == 1
    assert traffic.breaker(C).allows(102.0)


def test_removed() -> None:
    """Late responses of a removed replica are dropped: its peers are not compared with it."""
    traffic = create_traffic({A: 9.0, B: 0.1, C: 0.9})
    traffic.forget(A)
    late = FakeAttempt(99.0, replica=A)
    for number in range(50):
        traffic.record_latency("ttft", late, 100 + number / 100, 9.0)
    traffic.eject_slow(101.0)
    assert traffic.breaker(C).state(101.0) == "open"


def test_is_slow() -> None:
    """A single latency is compared with the medians of the other replicas."""
    traffic = create_traffic({A: 0.1, B: 0.2, C: 0.9})
    assert traffic.is_slow("ttft", C, 100.0, 0.7)
    assert not traffic.is_slow("ttft", C, 100.0, 0.5)
    assert not traffic.is_slow("tpot", C, 100.0, 0.7)


def test_max_ejected_share() -> None:
    """At most half of the replicas are ejected for slowness."""
    traffic = create_traffic({A: 0.1, B: 9.0})
    traffic.eject_slow(100.0)
    assert [traffic.breaker(replica).state(100.0) for replica in (A, B)] == ["closed", "open"]
    alone = create_traffic({A: 0.1})
    alone.eject_slow(100.0)
    assert not alone.restricted
