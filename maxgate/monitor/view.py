"""The state of the monitor after each snapshot, as every output shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maxgate.monitor.alerts import Alert, AlertTracker, Rule
from maxgate.monitor.diagnosis import Diagnosis, diagnose
from maxgate.monitor.history import History
from maxgate.monitor.metrics import Metrics, count_outcomes
from maxgate.monitor.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class View:
    """Everything that is shown after one snapshot.

    `history` is shared between views and keeps growing; the other fields belong to this snapshot.
    `outcomes` counts requests by outcome, without `ok`: in the window, and since the gateway's
    start. `down_since` is the `elapsed` of the first snapshot of the current outage, if any.
    """

    url: str
    snapshot: Snapshot
    metrics: Metrics
    history: History
    diagnosis: Diagnosis
    alerts: Sequence[Alert]
    outcomes: Mapping[str, tuple[int, int]]
    down_since: float | None

    @property
    def state(self) -> str:
        """A short description, for example `healthy` or `1 of 2 engines healthy, 1 draining`."""
        if self.down_since is not None:
            seconds = self.snapshot.elapsed - self.down_since
            return f"unreachable for {seconds:.0f} s ({self.snapshot.gateway_error}), retrying"
        gateway = self.snapshot.gateway
        states = [engine.state for engine in gateway.engines] if gateway else []
        healthy, draining = states.count("healthy"), states.count("draining")
        suffix = f", {draining} draining" if draining else ""
        if not healthy:
            return f"up, no healthy engine{suffix}"
        if self.serves_fully:
            return f"healthy{suffix}"
        return f"{healthy} of {len(states)} engines healthy{suffix}"

    @property
    def serves_fully(self) -> bool:
        """Whether the gateway is reachable and all engines that are not drained are healthy."""
        gateway = self.snapshot.gateway
        states = {engine.state for engine in gateway.engines} if gateway else set()
        return self.down_since is None and states - {"draining"} == {"healthy"}


class Monitor:
    """Builds a view from each snapshot; takes snapshots in chronological order."""

    def __init__(self, url: str, rules: Sequence[Rule], window: float) -> None:
        self._url = url
        self._alerts = AlertTracker(rules)
        self._history = History(window)
        self._down_since: float | None = None

    def update(self, snapshot: Snapshot) -> View:
        """Add a snapshot and return the resulting view."""
        history = self._history
        history.add(snapshot)
        if snapshot.gateway is not None:
            self._down_since = None
        elif self._down_since is None:
            self._down_since = snapshot.elapsed
        return View(
            url=self._url,
            snapshot=snapshot,
            metrics=history.metrics,
            history=history,
            diagnosis=diagnose(history),
            alerts=self._alerts.update(snapshot.elapsed, history.metrics),
            outcomes=count_outcomes(history.snapshots),
            down_since=self._down_since,
        )
