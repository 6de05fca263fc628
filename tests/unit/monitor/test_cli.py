"""The command as people and scripts use it: flags, one look, lines, exit codes."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest

from maxgate.monitor.cli import main
from maxgate.monitor.recording import Recorder, Recording
from tests.conftest import ROOT
from tests.fakes.gateway import StartGateway
from tests.unit.monitor.examples import gateway, snapshot


async def monitor(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python monitor.py`."""
    async with started(*arguments) as process:
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program while it runs; killed if it still does at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "monitor.py"),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bogus"], "No such option: --bogus"),
        (["--interval", "often"], "Invalid value for '--interval'"),
        (["--url", "localhost"], "'localhost' is not an address; give one like http://"),
        (["--replay", "/nowhere.jsonl"], "cannot read /nowhere.jsonl: No such file or directory"),
        (["--rules", "/nowhere.yaml"], "cannot read /nowhere.yaml: No such file or directory"),
        (["--json"], "--json goes with --once"),
        (["--record", "a", "--replay", "b"], "--record and --replay do not go together"),
        (["--once", "--record", "/no/a.jsonl"], "cannot write /no/a.jsonl: No such file"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"monitor.py: {said}")


async def test_no_traceback_reaches_the_terminal() -> None:
    code, out, err = await monitor("--interval", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)


async def test_one_look_at_a_gateway_as_json(start_gateway: StartGateway, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    async with start_gateway() as gateway:
        await gateway.chat()
        flags = ["--url", gateway.url, "--interval", "0.1", "--record", str(path)]
        code, out, err = await monitor(*flags, "--once", "--json")
    answer = orjson.loads(out)
    assert (code, err, answer["state"]) == (0, "", "healthy")
    assert answer["numbers"]["engines.healthy"] == 1
    assert answer["numbers"]["gateway.requests"] == 0
    assert answer["numbers"]["gateway.memory"] > 1_000_000
    assert [look.gateway is not None for look in Recording(path).snapshots] == [True, True]


async def test_a_gateway_that_is_away_is_exit_code_1() -> None:
    code, out, err = await monitor("--once", "--url", "http://127.0.0.1:9")
    assert (code, err) == (1, "")
    assert out.startswith("http://127.0.0.1:9: away for 0 s (no connection), trying again")


async def test_lines_come_one_by_one_until_it_is_interrupted(start_gateway: StartGateway) -> None:
    async with (
        start_gateway() as gateway,
        started("--plain", "--interval", "0.1", "--url", gateway.url) as process,
    ):
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(4)]
        process.send_signal(2)
        _, err = await process.communicate()
    assert lines[0].split()[:3] == [b"time", b"req", b"failed"]
    assert (process.returncode, err) == (130, b"")


async def test_a_replay_ends_with_its_recording(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Recorder(path, "http://gateway") as recorder:
        for at in (0, 1, 2):
            recorder.write(snapshot(at, gateway(at, ok=30 * at)))
    code, out, err = await monitor("--replay", str(path), "--speed", "100")
    assert (code, err, len(out.splitlines())) == (0, "", 4)
    code, out, err = await monitor("--replay", str(path), "--once", "--json")
    answer = orjson.loads(out)
    assert (code, answer["url"]) == (0, "http://gateway (recorded)")
    assert answer["numbers"]["gateway.requests"] == 30


def test_the_numbers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--numbers"])
    out, _ = capsys.readouterr()
    assert ended.value.code == 0
    assert "gateway.ttft_p95            s       arrival to first token, streams, P95" in out
