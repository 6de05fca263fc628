"""Where snapshots come from: a gateway, or a file."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from maxgate.clock import SystemClock
from maxgate.errors import ConfigurationError
from maxgate.tools.monitor.containers import ContainerSource
from maxgate.tools.monitor.gpus import GpuSource
from maxgate.tools.monitor.recording import Recorder, Recording, replay
from maxgate.tools.monitor.sampler import Sampler, live
from maxgate.tools.monitor.snapshot import Snapshot
from maxgate.tools.monitor.sources import EngineSource, GatewaySource


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
