"""From each snapshot to what is to be said about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maxgate.tools.monitor.diagnosis import Diagnosis, diagnose
from maxgate.tools.monitor.history import History
from maxgate.tools.monitor.numbers import Numbers, outcomes
from maxgate.tools.monitor.rules import Alert, Alerts, Rule
from maxgate.tools.monitor.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class View:
    """Everything that is shown at one time.

    `history` goes on; `numbers` are those of this time. `away_since` is the `elapsed` at which the
    gateway was first found away; None while it is there. `endings` are the outcomes other than
    `ok`: within the window, and ever.
    """

    url: str
    snapshot: Snapshot
    numbers: Numbers
    history: History
    diagnosis: Diagnosis
    alerts: Sequence[Alert]
    endings: Mapping[str, tuple[int, int]]
    away_since: float | None

    @property
    def state(self) -> str:
        """In a few words."""
        if self.away_since is not None:
            away = self.snapshot.elapsed - self.away_since
            return f"away for {away:.0f} s ({self.snapshot.gateway_error}), trying again"
        gateway = self.snapshot.gateway
        states = [engine.state for engine in gateway.engines] if gateway else []
        healthy = states.count("healthy")
        if not healthy:
            return "up, no engine can be asked"
        return "healthy" if healthy == len(states) else f"{healthy} of {len(states)} engines"


class Watch:
    """Sees snapshots in their order."""

    def __init__(self, url: str, rules: Sequence[Rule], window: float) -> None:
        self._url = url
        self._alerts = Alerts(rules)
        self._away_since: float | None = None
        self.history = History(window)

    def see(self, snapshot: Snapshot) -> View:
        """Take in the next snapshot."""
        self.history.add(snapshot)
        if snapshot.gateway is not None:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = snapshot.elapsed
        return View(
            url=self._url,
            snapshot=snapshot,
            numbers=self.history.numbers,
            history=self.history,
            diagnosis=diagnose(self.history),
            alerts=self._alerts.update(snapshot.elapsed, self.history.numbers),
            endings=outcomes(self.history.snapshots),
            away_since=self._away_since,
        )
