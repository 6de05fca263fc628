"""The command line: options, output modes and exit codes."""

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


async def run_monitor(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python monitor.py`."""
    async with start_monitor(*arguments) as process:
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def start_monitor(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start `python monitor.py`, and kill it at the end if it is still running."""
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
    ("arguments", "message"),
    [
        (["--bogus"], "No such option: --bogus"),
        (["--interval", "often"], "Invalid value for '--interval'"),
        (["--url", "ftp://gateway"], "--url ftp://gateway: expected http://host:port or https://"),
        (["--replay", "/nowhere.jsonl"], "cannot read /nowhere.jsonl: No such file or directory"),
        (["--rules", "/nowhere.yaml"], "cannot read /nowhere.yaml: No such file or directory"),
        (["--json"], "--json requires --once"),
        (["--record", "a", "--replay", "b"], "--record and --replay cannot be combined"),
        (["--append"], "--append requires --record"),
        (["--once", "--record", __file__], f"--record {__file__}: the file exists; choose another"),
        (["--once", "--record", "/no/a.jsonl"], "cannot write /no/a.jsonl: No such file"),
    ],
)
def test_invalid_options(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid option prints one line and exits with code 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"monitor.py: {message}")


async def test_no_traceback() -> None:
    """The program prints no traceback for an invalid option."""
    code, out, err = await run_monitor("--interval", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)


async def test_once_as_json(start_gateway: StartGateway, tmp_path: Path) -> None:
    """--once --json prints metrics of two samples, which --record writes."""
    path = tmp_path / "a.jsonl"
    async with start_gateway() as running:
        await running.chat()
        options = ["--url", running.url, "--interval", "0.1", "--record", str(path)]
        code, out, err = await run_monitor(*options, "--once", "--json")
    document = orjson.loads(out)
    assert (code, err, document["state"]) == (0, "", "healthy")
    assert document["numbers"]["engines.healthy"] == 1
    assert document["numbers"]["gateway.requests"] == 0
    assert document["numbers"]["gateway.memory"] > 1_000_000
    assert [one.gateway is not None for one in Recording(path).snapshots] == [True, True]


@pytest.mark.parametrize(
    "server",
    [
        ["--url", "http://127.0.0.1:9"],
        ["127.0.0.1:9"],
        ["--host", "127.0.0.1", "--port=9"],
    ],
)
async def test_unreachable_gateway(server: list[str]) -> None:
    """--once exits with code 1 if the gateway is unreachable, however its URL is given."""
    code, out, err = await run_monitor("--once", *server)
    assert (code, err) == (1, "")
    assert out.startswith("http://127.0.0.1:9: unreachable for 0 s (connection failed), retrying")


async def test_plain_lines(start_gateway: StartGateway) -> None:
    """--plain prints lines until it is interrupted."""
    async with (
        start_gateway() as running,
        start_monitor("--plain", "--interval", "0.1", "--url", running.url) as process,
    ):
        assert process.stdout is not None
        lines = [await process.stdout.readline() for _ in range(4)]
        process.send_signal(2)
        _, err = await process.communicate()
    assert lines[0].split()[:3] == [b"time", b"req", b"failed"]
    assert (process.returncode, err) == (130, b"")


async def test_replay(tmp_path: Path) -> None:
    """A replay ends with its recording; with --once only the end is printed."""
    path = tmp_path / "a.jsonl"
    with Recorder(path, "http://gateway") as recorder:
        for at in (0, 1, 2):
            recorder.write(snapshot(at, gateway(at, ok=30 * at)))
    code, out, err = await run_monitor("--replay", str(path), "--speed", "100")
    assert (code, err, len(out.splitlines())) == (0, "", 4)
    code, out, err = await run_monitor("--replay", str(path), "--once", "--json")
    document = orjson.loads(out)
    assert (code, document["url"]) == (0, "http://gateway (recorded)")
    assert document["numbers"]["gateway.requests"] == 30


@pytest.mark.parametrize(
    ("option", "warning"),
    [
        ("--list-metrics", ""),
        ("--numbers", "monitor.py: --numbers is deprecated, use --list-metrics\n"),
    ],
)
def test_list_metrics(option: str, warning: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--list-metrics lists all metrics, and so does the deprecated --numbers."""
    with pytest.raises(SystemExit) as ended:
        main([option])
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, warning)
    assert "gateway.ttft_p95            s       time to first token, streamed requests, P95" in out


@pytest.mark.parametrize(
    ("options", "alerts"),
    [
        ([], []),
        (["--targets", "design"], ["gateway.error_share"]),
        (["--rules", "rules.yaml"], ["gateway.requests"]),
        (["--rules", "rules.yaml", "--targets", "design"],
         ["gateway.error_share", "gateway.requests"]),
    ],
)  # fmt: skip
def test_alerts_on_request(
    options: list[str],
    alerts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without rules there are no alerts; --rules and --targets design add theirs."""
    monkeypatch.chdir(tmp_path)
    Path("rules.yaml").write_text("rules: [{metric: gateway.requests, above: 0}]")
    with Recorder(Path("a.jsonl"), "http://gateway") as recorder:
        for at in (0, 1):
            recorder.write(snapshot(at, gateway(at, ok=30 * at, failed=at)))
    with pytest.raises(SystemExit):
        main(["--replay", "a.jsonl", "--once", "--json", *options])
    document = orjson.loads(capsys.readouterr().out)
    assert [alert["number"] for alert in document["alerts"]] == alerts
