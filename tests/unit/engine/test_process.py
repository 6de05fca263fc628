"""Engine processes are stopped with all their children, even if the supervisor is killed."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from maxgate.engine.launcher import read_tail
from maxgate.engine.process import ProcessLauncher
from maxgate.errors import EngineError
from tests.fakes.processes import has_ended
from tests.fakes.waiting import until

# Starts a child process, as MAX does, prints both process ids and waits.
_PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(os.getpid(), child.pid, os.environ.get("COLOUR"), flush=True)
import signal; signal.pause()
"""
_STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + _PARENT


def launcher(
    tmp_path: Path, code: str, *, port: int = 0, memory_gb: float | None = None
) -> ProcessLauncher:
    return ProcessLauncher(
        [sys.executable, "-c", code],
        {"COLOUR": "blue"},
        tmp_path / "logs" / "engine.log",
        port=port,
        memory_gb=memory_gb,
        stop_timeout=0.2 if "SIG_IGN" in code else 10,
    )


async def read_ids(log_file: Path) -> list[int]:
    """Wait for the process ids of parent and child in the log."""

    async def is_written() -> bool:
        return read_tail(log_file).endswith("blue\n")

    await until(is_written)
    return [int(word) for word in read_tail(log_file).split()[:2]]


def have_exited(ids: Sequence[int]) -> bool:
    """Return whether none of the processes runs."""
    return not any(not has_ended(i) for i in ids)


async def wait_for_exit(ids: Sequence[int]) -> None:
    """Wait until all processes have exited."""

    async def check() -> bool:
        return have_exited(ids)

    await until(check)


@pytest.mark.parametrize("code", [_PARENT, _STUBBORN])
async def test_stop(tmp_path: Path, code: str) -> None:
    """Stopping ends the whole group, even if it ignores SIGTERM; a second stop does nothing."""
    one = launcher(tmp_path, code)
    engine = await one.start()
    ids = await read_ids(one.log_file)
    await engine.stop()
    await wait_for_exit(ids)
    await engine.stop()


async def test_stop_after_exit(tmp_path: Path) -> None:
    """Stopping ends the children of an engine that was killed."""
    one = launcher(tmp_path, _PARENT)
    engine = await one.start()
    ids = await read_ids(one.log_file)
    os.kill(ids[0], signal.SIGKILL)
    assert await engine.wait() == -signal.SIGKILL
    assert not have_exited(ids[1:])
    await engine.stop()
    await wait_for_exit(ids)


async def test_exit_code_and_log(tmp_path: Path) -> None:
    """The exit code is returned, and the output is in the log file."""
    one = launcher(tmp_path, "print('why'); raise SystemExit(7)")
    engine = await one.start()
    assert (await engine.wait(), read_tail(one.log_file)) == (7, "why\n")


async def test_killed_supervisor(tmp_path: Path) -> None:
    """The engine gets SIGTERM when its supervisor is killed."""
    log_file = tmp_path / "logs" / "engine.log"
    code = f"""
import asyncio, sys
from pathlib import Path
from maxgate.engine.process import ProcessLauncher
async def main():
    launcher = ProcessLauncher([sys.executable, "-c", {_PARENT!r}], {{"COLOUR": "blue"}},
        Path({str(log_file)!r}), port=0, memory_gb=None, stop_timeout=1)
    await launcher.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    ids = await read_ids(log_file)
    supervisor.kill()
    await supervisor.wait()
    await wait_for_exit(ids[:1])
    os.kill(ids[1], signal.SIGKILL)  # on SIGTERM, MAX would end its own child


async def test_port_in_use(tmp_path: Path) -> None:
    """A port in use is reported before the start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} is in use"):
            await launcher(tmp_path, _PARENT, port=port).start()


async def test_too_little_memory(tmp_path: Path) -> None:
    """Too little memory is reported before the start."""
    with pytest.raises(EngineError, match="the model needs about 1e"):
        await launcher(tmp_path, _PARENT, memory_gb=1e6).start()
