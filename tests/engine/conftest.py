"""The real MAX, once for chat and once for embeddings, for the whole run.

The gateway itself starts both, on the CPU.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from maxgate.clock import SystemClock
from tests.conftest import ROOT
from tests.fakes.gateway import EMBEDDING_CARD, SMALL_CARD
from tests.fakes.processes import free_port

_START_SECONDS = 600
_BATCHES = "maxserve_batch_execution_time_milliseconds_count"
_PAUSE = threading.Event()


@dataclass(frozen=True)
class RealGateway:
    """A gateway with two MAX behind it, and all addresses."""

    url: str
    engine_url: str
    embedding_engine_url: str
    metrics_url: str
    process: "subprocess.Popen[bytes]"

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


@pytest.fixture(scope="session")
def real_gateway(small_model: Path, embedding_model: Path) -> Iterator[RealGateway]:
    """Up and ready; killed at the end, after which nothing may be left running."""
    assert small_model.is_dir()
    assert embedding_model.is_dir()
    port, engine_port, embedding_port = free_port(), free_port(), free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "api_server.py", "--port", str(port), "--engine", "local"),
            *("--engine-url", f"http://localhost:{engine_port}", "--card", str(SMALL_CARD)),
            *("--engine-url", f"http://localhost:{embedding_port}", "--card", str(EMBEDDING_CARD)),
        ],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAXGATE_")},
        start_new_session=True,
    )
    gateway = RealGateway(
        f"http://127.0.0.1:{port}",
        f"http://127.0.0.1:{engine_port}",
        f"http://127.0.0.1:{embedding_port}",
        f"http://127.0.0.1:{engine_port + 1}/metrics",
        process,
    )
    try:
        _wait_until_ready(gateway)
        yield gateway
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _, left = psutil.wait_procs(started, timeout=30)
        for one in left:
            one.kill()
        assert left == [], "MAX went on running after its gateway was killed"


def _wait_until_ready(gateway: RealGateway) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + _START_SECONDS
    with httpx.Client(base_url=gateway.url, timeout=5) as client:
        while clock.monotonic() < deadline:
            assert gateway.process.poll() is None, "the gateway has ended"
            try:
                if client.get("/health").json()["status"] == "healthy":
                    return
            except httpx.HTTPError:
                pass
            _PAUSE.wait(0.2)
    raise AssertionError(f"MAX was not ready within {_START_SECONDS} s")
