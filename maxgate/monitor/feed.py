"""Where snapshots come from: a gateway, or a file."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from maxgate.clock import SystemClock
from maxgate.errors import ConfigurationError
from maxgate.monitor.alerts import Alert, Alerts, Rule
from maxgate.monitor.diagnosis import Diagnosis, diagnose
from maxgate.monitor.history import History
from maxgate.monitor.host_sources import ContainerSource, GpuSource
from maxgate.monitor.http_sources import EngineSource, GatewaySource
from maxgate.monitor.metrics import Numbers, outcomes
from maxgate.monitor.recording import Recorder, Recording, replay
from maxgate.monitor.sampler import Sampler, live
from maxgate.monitor.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Target:
    """What is watched: `recording` if there is one, else the servers."""

    url: str
    interval: float
    api_key: str | None = None
    metrics_urls: tuple[str, ...] = ()
    record: Path | None = None
    recording: Recording | None = None
    speed: float = 1.0

    @property
    def shown_url(self) -> str:
        """The gateway's address; of a recording, the one it was made at."""
        return self.url if self.recording is None else f"{self.recording.url} (recorded)"


@asynccontextmanager
async def open_feed(target: Target) -> AsyncIterator[AsyncGenerator[Snapshot]]:
    """The snapshots of a target, recorded on their way if that is wanted."""
    if target.recording is not None:
        yield replay(target.recording, target.speed)
        return
    headers = {"authorization": f"Bearer {target.api_key}"} if target.api_key else {}
    clock = SystemClock()
    # The key is the gateway's; engines do not get to see it.
    async with httpx.AsyncClient(headers=headers) as client, httpx.AsyncClient() as keyless:
        sampler = Sampler(
            GatewaySource(client, target.url),
            EngineSource(keyless, target.metrics_urls),
            GpuSource(),
            ContainerSource(),
            clock,
        )
        feed = live(sampler, target.interval, clock)
        if target.record is None:
            yield feed
            return
        with Recorder(target.record, target.url) as recorder:
            yield recorded(feed, recorder)


async def recorded(feed: AsyncGenerator[Snapshot], recorder: Recorder) -> AsyncGenerator[Snapshot]:
    """The same snapshots, each written down before anybody sees it."""
    async with aclosing(feed) as snapshots:
        async for snapshot in snapshots:
            recorder.write(snapshot)
            yield snapshot


def checked_url(url: str) -> str:
    """The address; raises ConfigurationError for one that is not of HTTP."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{url!r} is not an address: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationError(f"{url!r} is not an address; give one like http://localhost:8000")
    return url.rstrip("/")


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
