"""Probes and requests move a replica between its states."""

import pytest

from maxgate.generation.catalog import Capabilities
from maxgate.upstream.replica import MAX_FAILED_PROBES, EngineModel, Replica

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
