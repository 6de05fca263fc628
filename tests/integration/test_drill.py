"""`maxgate drill` plays failures against real gateways; the others are played by command."""

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
