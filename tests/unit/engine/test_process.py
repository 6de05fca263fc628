"""An engine process is ended with everything that it started, also when nobody is left to do it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from maxgate.engine.launcher import read_tail
from maxgate.engine.process import ProcessLauncher
from maxgate.errors import EngineError
from tests.fakes.waiting import until

# Starts a child of its own, as MAX does, says both ids, and waits.
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


async def started_ids(log_file: Path) -> list[int]:
    async def both_said() -> bool:
        return read_tail(log_file).endswith("blue\n")

    await until(both_said)
    return [int(word) for word in read_tail(log_file).split()[:2]]


def gone(ids: Sequence[int]) -> bool:
    return not any(
        psutil.pid_exists(i) and psutil.Process(i).status() != psutil.STATUS_ZOMBIE for i in ids
    )


async def everything_gone(ids: Sequence[int]) -> bool:
    return gone(ids)


@pytest.mark.parametrize("code", [_PARENT, _STUBBORN])
async def test_stopping_ends_the_whole_group(tmp_path: Path, code: str) -> None:
    one = launcher(tmp_path, code)
    engine = await one.start()
    ids = await started_ids(one.log_file)
    await engine.stop()
    await until(lambda: everything_gone(ids))
    await engine.stop()


async def test_what_a_dead_engine_left_behind_is_ended(tmp_path: Path) -> None:
    one = launcher(tmp_path, _PARENT)
    engine = await one.start()
    ids = await started_ids(one.log_file)
    os.kill(ids[0], signal.SIGKILL)
    assert await engine.wait() == -signal.SIGKILL
    assert not gone(ids[1:])
    await engine.stop()
    await until(lambda: everything_gone(ids))


async def test_the_exit_code_and_the_output_are_kept(tmp_path: Path) -> None:
    one = launcher(tmp_path, "print('why'); raise SystemExit(7)")
    engine = await one.start()
    assert (await engine.wait(), read_tail(one.log_file)) == (7, "why\n")


async def test_the_engine_ends_when_its_keeper_is_killed(tmp_path: Path) -> None:
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
    keeper = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    ids = await started_ids(log_file)
    keeper.kill()
    await keeper.wait()
    await until(lambda: everything_gone(ids[:1]))
    os.kill(ids[1], signal.SIGKILL)  # MAX ends its own children when it is told to end


async def test_a_taken_port_is_found_before_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EngineError, match=f"port {port} is taken"):
            await launcher(tmp_path, _PARENT, port=port).start()


async def test_too_little_memory_is_found_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="the model needs about 1e"):
        await launcher(tmp_path, _PARENT, memory_gb=1e6).start()
