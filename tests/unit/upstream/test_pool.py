"""The engine with the least to do among those that can."""

from maxgate.upstream.pool import choose_replica
from maxgate.upstream.replica import EngineModel, Replica

MODELS = {"small": EngineModel("small", 1, 100)}


def replica(state: str, in_flight: int = 0) -> Replica:
    one = Replica(f"http://{state}-{in_flight}")
    if state == "healthy":
        one.mark_healthy(MODELS)
    elif state == "unreachable":
        one.mark_unreachable("no connection")
    one.in_flight = in_flight
    return one


def test_the_choose_replica_healthy_one_is_taken() -> None:
    idle, busy = replica("healthy", 1), replica("healthy", 2)
    assert choose_replica([busy, idle], "small") is idle


def test_one_that_was_not_looked_at_yet_comes_last() -> None:
    unknown, busy = replica("unknown"), replica("healthy", 9)
    assert choose_replica([unknown, busy], "small") is busy
    assert choose_replica([unknown], "small") is unknown


def test_none_is_left() -> None:
    healthy = replica("healthy")
    assert choose_replica([healthy], "other") is None
    assert choose_replica([healthy], "small", exclude=[healthy]) is None
    assert choose_replica([replica("unreachable")], "small") is None
