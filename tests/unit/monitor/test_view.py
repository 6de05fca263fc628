"""The state of the gateway as one phrase."""

import pytest

from maxgate.monitor.snapshot import EngineState, Snapshot
from maxgate.monitor.view import Monitor
from tests.unit.monitor.examples import gateway, snapshot

UP = EngineState("http://a", "healthy")
DRAINING = EngineState("http://c", "draining")
DOWN = EngineState("http://b", "unreachable", error="connection failed")


@pytest.mark.parametrize(
    ("snapshots", "state"),
    [
        ([snapshot(1, gateway(1, engines=(UP,)))], "healthy"),
        ([snapshot(1, gateway(1, engines=(UP, DOWN)))], "1 of 2 engines healthy"),
        ([snapshot(1, gateway(1, engines=(UP, DRAINING)))], "healthy, 1 draining"),
        (
            [snapshot(1, gateway(1, engines=(UP, DOWN, DRAINING)))],
            "1 of 3 engines healthy, 1 draining",
        ),
        ([snapshot(1, gateway(1, engines=(DRAINING,)))], "up, no healthy engine, 1 draining"),
        ([snapshot(1, gateway(1, engines=(DOWN,)))], "up, no healthy engine"),
        ([snapshot(1, gateway(1, engines=()))], "up, no healthy engine"),
        ([snapshot(1)], "unreachable for 0 s (connection failed), retrying"),
        ([snapshot(1), snapshot(9)], "unreachable for 8 s (connection failed), retrying"),
        ([snapshot(1), snapshot(9, gateway(9))], "healthy"),
    ],
)
def test_state(snapshots: list[Snapshot], state: str) -> None:
    """The state names unhealthy engines and the length of an outage."""
    monitor = Monitor("http://gateway", (), 10)
    views = [monitor.update(one) for one in snapshots]
    assert views[-1].state == state
