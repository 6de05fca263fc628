"""A gateway that runs MAX on the CPU twice: for chat and for embeddings."""

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
from tests.fakes.gateway import EMBEDDING_CARD, SMALL_CARD, TLS
from tests.fakes.processes import free_port, free_port_before_another

_START_TIMEOUT = 600
_PAUSE = threading.Event()
_BATCH_COUNTER = "maxserve_batch_execution_time_milliseconds_count"


@dataclass(frozen=True)
class RealGateway:
    """A gateway process that starts two engines, and their addresses."""

    url: str
    engine_url: str
    embedding_engine_url: str
    metrics_url: str
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls) -> "RealGateway":
        """Start the process without waiting for it."""
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
        """Return once both engines are healthy."""
        clock = SystemClock()
        deadline = clock.monotonic() + _START_TIMEOUT
        with httpx.Client(base_url=self.url, timeout=5, verify=TLS) as client:
            while clock.monotonic() < deadline:
                assert self.process.poll() is None, "the gateway exited"
                try:
                    if client.get("/health").json()["status"] == "healthy":
                        return
                except httpx.HTTPError:
                    pass
                _PAUSE.wait(0.2)
        raise AssertionError(f"MAX was not ready within {_START_TIMEOUT} s")

    def kill(self) -> None:
        """Kill the gateway, and fail if an engine survives it; does nothing the second time."""
        if self.process.returncode is not None:
            return
        started = psutil.Process(self.process.pid).children(recursive=True)
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        _, left = psutil.wait_procs(started, timeout=30)
        for child in left:
            child.kill()
        assert left == [], "MAX is still running after its gateway was killed"

    async def is_idle(self) -> bool:
        """Whether MAX computed no batch for half a second, which is many times a batch.

        MAX has no gauge for this: its gauges are zero while it computes for disconnected clients.
        """
        before = await self._read_batch_counts()
        await asyncio.sleep(0.5)
        return before == await self._read_batch_counts()

    async def _read_batch_counts(self) -> list[str]:
        async with httpx.AsyncClient(verify=TLS) as client:
            text = (await client.get(self.metrics_url)).text
        found = re.findall(rf"^{_BATCH_COUNTER}\S* (\S+)", text, re.MULTILINE)
        assert found, text
        return found
