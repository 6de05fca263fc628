"""The command `maxgate doctor`: its report, exit codes and what it never prints."""

import json
import socket
from pathlib import Path

import pytest

from maxgate.doctor.findings import Finding, Subject, error, ok, run_checks
from maxgate.doctor.host import SystemHost
from maxgate.settings import Settings
from tests.fakes.command_line import Run
from tests.fakes.doctor import FakeHost


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without files of settings in the working directory, and without an engine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAXGATE_SERVER__PORT", "0")
    monkeypatch.setenv("MAXGATE_ENGINES", "http://user:hunter2@127.0.0.1:1")


def test_unknown_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid settings are one error, with suggestions."""
    monkeypatch.setenv("MAXGATE_SERVER__PROT", "9000")
    code, out, err = run("doctor", "--json")
    finding = {
        "level": "error",
        "text": "unknown setting MAXGATE_SERVER__PROT",
        "code": "settings_invalid",
        "remedy": "did you mean MAXGATE_SERVER__PORT?",
        "check": "settings",
    }
    assert (code, json.loads(out), err) == (
        1,
        {"errors": 1, "warnings": 0, "findings": [finding]},
        "",
    )


def test_all_problems(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every invalid setting is a finding of its own, wherever it is set."""
    (tmp_path / "maxgate.yaml").write_text("server: {prot: 1, host: 5}\nengines: []\n")
    monkeypatch.setenv("MAXGATE_CONFIG", "maxgate.yaml")
    monkeypatch.setenv("MAXGATE_SERVER__WORKERS", "many")
    monkeypatch.setenv("MAXGATE_SERVR__PORT", "1")
    monkeypatch.delenv("MAXGATE_ENGINES")
    _, out, _ = run("doctor", "--json")
    assert [finding["text"] for finding in json.loads(out)["findings"]] == [
        "unknown setting MAXGATE_SERVR__PORT",
        "maxgate.yaml: unknown setting server.prot",
        "maxgate.yaml: setting server.host: Input should be a valid string",
        "setting server.workers: Input should be a valid integer, unable to parse string as an "
        "integer",
        "maxgate.yaml: setting engines: the list is empty",
    ]


def test_unreadable_files(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files that cannot be read are findings, all of them."""
    monkeypatch.setenv("MAXGATE_CONFIG", "maxgate.yaml")
    monkeypatch.setenv("MAXGATE_ENV_FILE", ".env")
    (tmp_path / "maxgate.yaml").write_text("server: [")
    (tmp_path / ".env").write_text("MAXGATE_SERVER__PORT")
    _, out, _ = run("doctor", "--json")
    assert [finding["text"] for finding in json.loads(out)["findings"]] == [
        "maxgate.yaml, line 1: not valid YAML",
        ".env, line 1: write NAME=value",
    ]


def test_unused_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings without effect are findings beside those of all checks."""
    monkeypatch.setenv("MAXGATE_AUTH__MODE", "none")
    monkeypatch.setenv("MAXGATE_DATABASE__URL", "postgresql://user@db-1/maxgate")
    monkeypatch.setenv("MAXGATE_REDIS__URL", "redis://redis-1:6379/0")
    monkeypatch.setenv("MAXGATE_ADMISSION__ENABLED", "false")
    _, out, _ = run("doctor", "--json")
    findings = json.loads(out)["findings"]
    texts = [finding["text"] for finding in findings if finding["check"] == "settings"]
    assert [text.partition(" with")[0] for text in texts] == [
        "setting redis.url has no effect",
        "setting database.url has no effect",
    ]
    assert "engine_unreachable" in {finding["code"] for finding in findings}


def test_many_engines(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table shows four findings of a kind, and how many are like them."""
    urls = [f"http://127.0.0.1:{port}" for port in range(1, 10)]
    monkeypatch.setenv("MAXGATE_ENGINES", ",".join(urls))
    monkeypatch.setenv("COLUMNS", "120")
    _, out, _ = run("doctor")
    lines = [line for line in out.splitlines() if line.startswith("error    engines")]
    assert [line[25:] for line in lines] == [
        *(f"http://127.0.0.1:{port} is unreachable: connection refused" for port in range(1, 5)),
        "5 more like the last one; --json lists all",
    ]
    assert out.splitlines()[-1].startswith("9 errors, ")


def test_table(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has a row per finding with its remedy below, and no password."""
    monkeypatch.setenv("MAXGATE_AUTH__MODE", "none")
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = run("doctor")
    assert (code, err) == (1, "")
    assert (
        "error    engines         http://127.0.0.1:1 is unreachable: connection refused\n"
        "                         → start the engine (max serve --port 1 ...), or correct "
        "`engines`\n"
    ) in out
    assert out.splitlines()[-1].startswith("1 error, ")
    assert "hunter2" not in out


def test_strict(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Warnings count with --strict only."""
    monkeypatch.setenv("MAXGATE_AUTH__MODE", "none")
    monkeypatch.setenv("MAXGATE_ENGINE__MODE", "local")
    monkeypatch.setenv("MAXGATE_ENGINE__PYTHON", str(tmp_path))
    monkeypatch.setenv("MAXGATE_SERVER__SHUTDOWN_TIMEOUT", "1")
    assert run("doctor")[0] == 0
    assert run("doctor", "--strict")[0] == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gateway", "'gateway' is not a URL"),
        ("http://user:sEc/ReT@gateway", "'http://gateway' is not a URL"),
        (
            "http://u:sEcReT@gateway?key=sEcReT",
            "'http://gateway': a base URL has no query and no fragment",
        ),
        ("http://gateway/#sEcReT", "'http://gateway/': a base URL has no query and no fragment"),
    ],
)
def test_usage(run: Run, url: str, message: str) -> None:
    """A value of --url that is no base URL is an error of usage, shown without secrets."""
    code, out, err = run("doctor", "--url", url)
    assert (code, out) == (2, "")
    assert err == (
        f"maxgate: Invalid value for --url: {message}; write https://gateway.example.org "
        "(--help lists the options)\n"
    )


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_url_with_password(run: Run, monkeypatch: pytest.MonkeyPatch, flags: list[str]) -> None:
    """User and password of --url are in no finding."""
    monkeypatch.setenv("COLUMNS", "120")
    code, out, err = run("doctor", "--url", "http://alice:sEcReT@127.0.0.1:1", *flags)
    assert (code, err) == (1, "")
    assert "no gateway responds at http://127.0.0.1:1: All connection attempts failed" in out
    assert "sEcReT" not in out
    assert "alice" not in out


async def test_broken_checks() -> None:
    """A check that raises or hangs is an error, without secrets; the others go on."""

    async def fails(subject: Subject) -> list[Finding]:
        raise OSError("no route with hunter2")

    async def hangs(subject: Subject) -> list[Finding]:
        raise TimeoutError

    async def works(subject: Subject) -> list[Finding]:
        return [ok("well")]

    done: list[tuple[str, int]] = []
    findings = await run_checks(
        [("first", fails), ("second", hangs), ("third", works)],
        Subject(Settings(engines=["http://user:hunter2@gpu-1"]), FakeHost()),
        on_done=lambda name, left: done.append((name, left)),
        timeout=3,
    )
    assert findings == [
        error(
            "check_failed",
            "the check failed: OSError: no route with ***",
            "report it as a bug of maxgate",
        ).in_check("first"),
        error(
            "check_timeout",
            "no result within 3 s",
            "look for a server or file system that does not respond",
        ).in_check("second"),
        Finding("ok", "well", check="third"),
    ]
    assert done == [("first", 2), ("second", 1), ("third", 0)]


def test_host(tmp_path: Path) -> None:
    """The real machine has cores, free space, a file system, and this listener."""
    host = SystemHost()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert host.list_listeners()[port] == {"127.0.0.1"}
    assert host.count_cores() >= 1
    assert host.read_file_limit() >= 256
    assert host.measure_free_bytes(tmp_path) > 0
    assert host.find_file_system(tmp_path) != ""
    assert host.has_package("httpx")
    assert not host.has_package("no_such_package")
    assert not host.has_package("no_such_package.sdk")
