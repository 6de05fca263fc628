"""`maxgate drill` plays failures against real gateways; the others are played by command."""

import os
import subprocess
import sys
from pathlib import Path

from maxgate.drill.run import FAILURES, Observer, run_drill
from maxgate.drill.scratch import prepare
from maxgate.settings import Settings

PLAYED = ("stream-cut", "engine-restart", "bad-key", "large-body")


async def test_failures(tmp_path: Path, small_model: Path) -> None:
    """Clients see what the policy says, for a gateway and an engine of its own."""
    settings = Settings.model_validate(
        {
            "engines": ["http://engine.invalid:8000"],
            "auth": {"mode": "keys"},
            "database": {"url": "none"},
            "server": {"max_body_bytes": 2000},
        }
    )
    scratch = await prepare(settings, tmp_path, {})
    ended: list[str] = []
    reports = await run_drill(
        scratch,
        [failure for failure in FAILURES if failure.name in (*PLAYED, "redis-away")],
        time_limit=300,
        observer=Observer(on_end=lambda report: ended.append(report.name)),
    )
    assert [(one.name, one.verdict, one.responses, one.breaches) for one in reports] == [
        ("stream-cut", "kept", {"200": 4}, ()),
        ("engine-restart", "kept", {"200": 4}, ()),
        ("redis-away", "skipped", None, ("no scratch Redis; name one with --redis",)),
        ("bad-key", "kept", {"401 invalid_api_key": 3}, ()),
        ("large-body", "kept", {"413 request_too_large": 2}, ()),
    ]
    assert ended == ["redis-away", "bad-key", "large-body", "stream-cut", "engine-restart"]
    assert [one.cut_silently for one in reports] == [0, 0, 0, 0, 0]


def test_files_of_a_run(tmp_path: Path) -> None:
    """A drill deletes the files of its gateways, which it kills."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    drill = subprocess.run(
        [sys.executable, "-m", "maxgate", "drill", "--only", "overload-10"],
        cwd=tmp_path,
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "MAXGATE_AUTH__MODE": "none",
            "MAXGATE_SERVER__WORKERS": "2",
        },
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert (drill.returncode, list(temporary.iterdir())) == (0, []), drill.stderr.decode()
