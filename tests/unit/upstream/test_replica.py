"""Probes and requests move a replica between its states."""

import pytest

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.replica import MAX_FAILED_PROBES, RECENT, EngineModel, Replica

MODELS = {"small": EngineModel("small", 1, 100)}


def test_new_replica() -> None:
    """A new replica has an unknown state and no models."""
    replica = Replica("http://engine/")
    assert (replica.url, replica.state, replica.models) == ("http://engine", "unknown", {})


def test_healthy() -> None:
    """A successful probe sets the models, adds capabilities and clears the error."""
    replica = Replica("http://engine")
    replica.mark_unreachable("no connection")
    replica.mark_healthy(MODELS, {"small": Capabilities(grammar=True)})
    replica.mark_healthy(MODELS)
    assert (replica.state, replica.models, replica.error) == ("healthy", MODELS, None)
    assert replica.capabilities == {"small": Capabilities(grammar=True)}


@pytest.mark.parametrize("refused", [True, False])
def test_failed_probe_of_new_replica(*, refused: bool) -> None:
    """A replica that is not healthy becomes unreachable with its first failed probe."""
    replica = Replica("http://engine")
    replica.mark_probe_failed("no response in time", refused=refused)
    assert (replica.state, replica.error) == ("unreachable", "no response in time")


def test_failed_probes_of_healthy_replica() -> None:
    """A healthy replica tolerates slow probes up to a limit; a successful one resets the count."""
    replica = Replica("http://engine")
    states = []
    for _ in range(2):
        replica.mark_healthy(MODELS)
        for _ in range(MAX_FAILED_PROBES - 1):
            replica.mark_probe_failed("no response in time", refused=False)
        states.append(replica.state)
    replica.mark_probe_failed("no response in time", refused=False)
    assert [*states, replica.state] == ["healthy", "healthy", "unreachable"]


def test_refused_probe() -> None:
    """A refused connection makes a healthy replica unreachable immediately."""
    replica = Replica("http://engine")
    replica.mark_healthy(MODELS)
    replica.mark_probe_failed("no connection", refused=True)
    assert (replica.state, replica.models) == ("unreachable", MODELS)


def test_failed_probes_of_responding_replica() -> None:
    """Slow probes do not count while the engine responds to requests; refused ones do."""
    replica = Replica("http://engine")
    replica.mark_healthy(MODELS)
    replica.activity.at = 100.0
    for _ in range(2 * MAX_FAILED_PROBES):
        replica.mark_probe_failed("no response in time", refused=False, now=100 + RECENT)
    assert (replica.state, replica.error) == ("healthy", None)
    for _ in range(MAX_FAILED_PROBES):
        replica.mark_probe_failed("no response in time", refused=False, now=101 + RECENT)
    assert replica.state == "unreachable"
    replica.mark_healthy(MODELS)
    replica.mark_probe_failed("no connection", refused=True, now=100)
    assert replica.state == "unreachable"


@pytest.mark.parametrize(("now", "state"), [(100.0, "healthy"), (101.0 + RECENT, "unreachable")])
def test_connect_timeout(now: float, state: str) -> None:
    """A connection that is not accepted in time counts unless the engine responds to requests."""
    replica = Replica("http://engine")
    replica.mark_healthy(MODELS)
    replica.activity.at = 100.0
    replica.mark_connect_timeout("no connection in time", now)
    assert replica.state == state


def test_inconclusive_probe() -> None:
    """A probe that the gateway could not send leaves the state and shows the cause."""
    replica = Replica("http://engine")
    replica.mark_healthy(MODELS)
    for _ in range(2 * MAX_FAILED_PROBES):
        replica.mark_inconclusive("out of file descriptors")
    assert (replica.state, replica.error) == ("healthy", "out of file descriptors")
    replica.mark_healthy(MODELS)
    assert replica.error is None
