"""Streams of snapshots: sampled from a live gateway, or replayed from a recording."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from maxgate.clock import Clock, SystemClock
from maxgate.errors import ConfigurationError
from maxgate.hardware.gpus import GpuSource
from maxgate.hardware.host import read_host
from maxgate.monitor.host_sources import ContainerSource
from maxgate.monitor.http_sources import EngineSource, GatewaySource
from maxgate.monitor.recording import Recorder, Recording
from maxgate.monitor.snapshot import Snapshot
from maxgate.net.server_url import hide_credentials, parse_server_url

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """The source of the snapshots: `recording` if it is set, else the gateway at `url`.

    `interval` is the seconds between samples; `speed` is the replay speed, 1 for real time.
    """

    url: str
    interval: float
    api_key: str | None = None
    metrics_urls: tuple[str, ...] = ()
    record: Path | None = None
    append: bool = False
    recording: Recording | None = None
    speed: float = 1.0

    @property
    def display_url(self) -> str:
        """The gateway's URL, marked as recorded in a replay."""
        if self.recording is not None:
            return f"{self.recording.url} (recorded)"
        return hide_credentials(self.url)


def validate_url(url: str) -> str:
    """The URL without a slash at its end, `http://` by default.

    Raises ConfigurationError if it is not HTTP(S).
    """
    url = url if "://" in url else f"http://{url}"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{url!r} is not a valid URL: {error}") from error
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationError(
            f"{url!r} is not an HTTP URL; write it as in http://localhost:8000"
        )
    return url.rstrip("/")


def parse_gateway_url(url: str) -> str:
    """The URL without the path of an endpoint, such as `/v1`; with user and password, if any.

    Raises ConfigurationError.
    """
    server = parse_server_url(url)
    credentials = urlsplit(validate_url(url)).netloc.rpartition("@")[0]
    return server.url.replace("//", f"//{credentials}@", 1) if credentials else server.url


@asynccontextmanager
async def open_feed(options: FeedOptions) -> AsyncIterator[AsyncGenerator[Snapshot]]:
    """Open the snapshot stream; with `record`, each snapshot is written before it is yielded."""
    if options.recording is not None:
        yield replay(options.recording, options.speed)
        return
    headers = {"authorization": f"Bearer {options.api_key}"} if options.api_key else {}
    clock = SystemClock()
    # The API key belongs to the gateway and is not sent to engines.
    async with httpx.AsyncClient(headers=headers) as client, httpx.AsyncClient() as keyless:
        sampler = Sampler(
            GatewaySource(client, options.url),
            EngineSource(keyless, options.metrics_urls),
            GpuSource(),
            ContainerSource(),
            clock,
        )
        feed = sample_periodically(sampler, options.interval, clock)
        if options.record is None:
            yield feed
            return
        with Recorder(options.record, options.display_url, append=options.append) as recorder:
            yield record(feed, recorder)


class Sampler:
    """Reads all sources into a snapshot."""

    def __init__(
        self,
        gateway: GatewaySource,
        engines: EngineSource,
        gpus: GpuSource,
        containers: ContainerSource,
        clock: Clock,
    ) -> None:
        self._gateway = gateway
        self._engines = engines
        self._gpus = gpus
        self._containers = containers
        self._clock = clock
        self._started = clock.monotonic()

    async def sample(self) -> Snapshot:
        """Take a snapshot, timestamped when the request to the gateway starts."""
        at, elapsed = self._clock.wall(), self._clock.monotonic() - self._started
        reading, error = await self._gateway.read(elapsed)
        engines, containers = await asyncio.gather(
            self._engines.read(elapsed, reading),
            asyncio.to_thread(self._containers.read, elapsed),
        )
        return Snapshot(
            at=at,
            elapsed=elapsed,
            gateway=reading,
            gateway_error=error,
            engines=engines,
            host=read_host(Path.cwd()),
            gpus=self._gpus.read(),
            containers=containers,
        )


async def sample_periodically(
    sampler: Sampler, interval: float, clock: Clock, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[Snapshot]:
    """Yield a snapshot per interval, forever; a slow sample delays only the next one."""
    due = clock.monotonic()
    while True:
        yield await sampler.sample()
        due = max(due + interval, clock.monotonic())
        await sleep(due - clock.monotonic())


async def record(feed: AsyncGenerator[Snapshot], recorder: Recorder) -> AsyncGenerator[Snapshot]:
    """Write each snapshot before yielding it."""
    async with aclosing(feed) as snapshots:
        async for snapshot in snapshots:
            recorder.write(snapshot)
            yield snapshot


async def replay(
    recording: Recording, speed: float, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[Snapshot]:
    """Yield the recorded snapshots at their original intervals, divided by `speed`."""
    previous = recording.snapshots[0].elapsed
    for snapshot in recording.snapshots:
        await sleep(max(snapshot.elapsed - previous, 0) / speed)
        previous = snapshot.elapsed
        yield snapshot
