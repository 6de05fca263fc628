"""One look at everything, and looks at fixed times."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from maxgate.clock import Clock
from maxgate.monitor.host_sources import ContainerSource, GpuSource, read_host
from maxgate.monitor.http_sources import EngineSource, GatewaySource
from maxgate.monitor.snapshot import Snapshot

Sleep = Callable[[float], Awaitable[None]]


class Sampler:
    """Asks every source."""

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

    async def look(self) -> Snapshot:
        """A snapshot; its time is when the gateway was asked."""
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


async def live(
    sampler: Sampler, interval: float, clock: Clock, sleep: Sleep = asyncio.sleep
) -> AsyncGenerator[Snapshot]:
    """Snapshots at every interval, for ever; one that takes longer delays only the next."""
    due = clock.monotonic()
    while True:
        yield await sampler.look()
        due = max(due + interval, clock.monotonic())
        await sleep(due - clock.monotonic())
