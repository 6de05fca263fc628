"""A gateway with the real MAX behind it, once for chat and once for embeddings, on the CPU."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass

import httpx
import psutil

from maxgate.clock import SystemClock
from maxgate.settings_names import LOCATIONS
from tests.conftest import ROOT
from tests.fakes.gateway import EMBEDDING_CARD, SMALL_CARD
from tests.fakes.processes import free_port, free_port_before_another

_START_SECONDS = 600
_PAUSE = threading.Event()
_BATCHES = "maxserve_batch_execution_time_milliseconds_count"


@dataclass(frozen=True)
class RealGateway:
    """A gateway that starts two MAX, and all addresses."""

    url: str
    engine_url: str
    embedding_engine_url: str
    metrics_url: str
    process: "subprocess.Popen[bytes]"

    @classmethod
    def started(cls) -> "RealGateway":
        """On its way up."""
        port = free_port()
        engine_port, embedding_port = free_port_before_another(), free_port_before_another()
        engines = [
            *("--engine-url", f"http://localhost:{engine_port}", "--card", str(SMALL_CARD)),
            *("--engine-url", f"http://localhost:{embedding_port}", "--card", str(EMBEDDING_CARD)),
        ]
        process = subprocess.Popen(
            [sys.executable, "api_server.py", "--port", str(port), "--engine", "local", *engines],
            cwd=ROOT,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("MAXGATE_")},
                **dict.fromkeys(LOCATIONS, ""),
            },
            start_new_session=True,
        )
        return cls(
            f"http://127.0.0.1:{port}",
            f"http://127.0.0.1:{engine_port}",
            f"http://127.0.0.1:{embedding_port}",
            f"http://127.0.0.1:{engine_port + 1}/metrics",
            process,
        )

    def wait_until_ready(self) -> None:
        """Return once both MAX answer."""
        clock = SystemClock()
        deadline = clock.monotonic() + _START_SECONDS
        with httpx.Client(base_url=self.url, timeout=5) as client:
            while clock.monotonic() < deadline:
                assert self.process.poll() is None, "the gateway has ended"
                try:
                    if client.get("/health").json()["status"] == "healthy":
                        return
                except httpx.HTTPError:
                    pass
                _PAUSE.wait(0.2)
        raise AssertionError(f"MAX was not ready within {_START_SECONDS} s")

    def kill(self) -> None:
        """Kill the gateway, after which nothing may be left running; no more than once."""
        if self.process.returncode is not None:
            return
        started = psutil.Process(self.process.pid).children(recursive=True)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _, left = psutil.wait_procs(started, timeout=30)
        for one in left:
            one.kill()
        assert left == [], "MAX went on running after its gateway was killed"

    async def rests(self) -> bool:
        """Whether MAX computed no batch for half a second, which is many batches long.

        Its gauges do not tell: they show nothing while it goes on for clients that have left.
        """
        before = await self._batches()
        await asyncio.sleep(0.5)
        return before == await self._batches()

    async def _batches(self) -> list[str]:
        async with httpx.AsyncClient() as client:
            text = (await client.get(self.metrics_url)).text
        found = re.findall(rf"^{_BATCHES}\S* (\S+)", text, re.MULTILINE)
        assert found, text
        return found
