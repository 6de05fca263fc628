"""The gateway in a process of its own, started as a user starts it."""

import asyncio
import os
import random
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import httpx
import psutil

from tests.fakes.gateway import TLS
from tests.fakes.waiting import until

ROOT = Path(__file__).parents[2]
_ROOT_WARNING: Final = b"running as root"


def has_ended(pid: int) -> bool:
    """Whether a process has ended, even if nobody has waited for it yet."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def free_port() -> int:
    """Return a port on which nothing listens."""
    return _find_free_port(1)


def free_port_before_another() -> int:
    """Return the first of two adjacent ports on which nothing listens: MAX needs both."""
    return _find_free_port(2)


def _find_free_port(count: int) -> int:
    """Return the first of some adjacent ports on which nothing listens.

    They are below the ephemeral ports, which the system may assign to a connection at any time.
    """
    for port in random.sample(range(20_000, 32_000, 2), 6_000):
        with suppress(OSError), ExitStack() as stack:
            for neighbour in range(port, port + count):
                stack.enter_context(socket.create_server(("127.0.0.1", neighbour)))
            return port
    raise AssertionError("all ports are in use")


@dataclass
class ServerProcess:
    """A running `python api_server.py`; `lines` are its stderr."""

    process: asyncio.subprocess.Process
    url: str
    state_dir: Path
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Port of its URL."""
        return int(self.url.rpartition(":")[2])

    async def read(self) -> None:
        """Collect its stderr until it ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            if _ROOT_WARNING not in line:  # tests may run as root
                self.lines.append(line.decode())

    def find_workers(self) -> list[psutil.Process]:
        """Return its worker processes, the oldest first."""
        workers = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it ends, or is a zombie
                if any("spawn_main" in argument for argument in child.cmdline()):
                    workers.append(child)
        return workers

    async def is_up(self) -> bool:
        """Whether it responds; fails if the process has exited."""
        assert self.process.returncode is None, "".join(self.lines)
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient(verify=TLS) as client:
                return (await client.get(self.url + "/health/live")).status_code == 200
        return False


@asynccontextmanager
async def api_server(
    *flags: str,
    port: int | None = None,
    max_open_files: tuple[int, int] | None = None,
    **environment: str,
) -> AsyncIterator[ServerProcess]:
    """Run the server with these flags, on a free port by default; kill it at the end.

    `max_open_files` is its soft and hard limit of file descriptors.
    """
    port = port or free_port()
    command = ("api_server.py", "--port", str(port), *flags)
    async with _run_server(command, port, environment, max_open_files) as server:
        yield server


@asynccontextmanager
async def plain_uvicorn(
    *flags: str, max_open_files: tuple[int, int] | None = None, **environment: str
) -> AsyncIterator[ServerProcess]:
    """Run the application under uvicorn's own command line, as `api_server` does."""
    port = free_port()
    command = ("-m", "uvicorn", "api_server:app", "--port", str(port), *flags)
    async with _run_server(command, port, environment, max_open_files) as server:
        yield server


@asynccontextmanager
async def _run_server(
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    max_open_files: tuple[int, int] | None,
) -> AsyncIterator[ServerProcess]:
    state_dir = TemporaryDirectory()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        cwd=ROOT,
        env={**os.environ, "MAXGATE_STATE_DIR": state_dir.name, **environment},
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    if max_open_files is not None:
        psutil.Process(process.pid).rlimit(psutil.RLIMIT_NOFILE, max_open_files)
    server = ServerProcess(process, f"http://127.0.0.1:{port}", Path(state_dir.name))
    reading = asyncio.create_task(server.read())
    try:
        await until(server.is_up, within=20)
        yield server
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading
        state_dir.cleanup()


async def run_to_end(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a Python command to its end; return exit code and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode is not None
    return process.returncode, stderr.decode()
