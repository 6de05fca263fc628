"""How a drill judges what clients have seen, and what its scratch instance may contact."""

from pathlib import Path

import pytest

from maxgate.drill.client import Result, count_labels
from maxgate.drill.failures import Outcome, Policy, find_breaches
from maxgate.drill.scratch import build_config
from maxgate.settings import Settings

COMPLETE = Result("complete", 200, seconds=1.0)
REFUSED = Result("error", 503, "server_overloaded", retry_after="2", seconds=0.1)
LABEL = "503 server_overloaded"


@pytest.mark.parametrize(
    ("results", "breaches"),
    [
        ([COMPLETE, REFUSED], []),
        ([REFUSED], ["0 of 1 responses are complete"]),
        ([COMPLETE, Result("silent", 200)], ["1 response: CUT SILENTLY"]),
        ([COMPLETE, Result("error", 502, "upstream_error")], ["1 response: 502 upstream_error"]),
        (
            [COMPLETE, Result("error", 503, "server_overloaded")],
            ["1 response has no Retry-After"],
        ),
        ([Result("complete", 200, seconds=9.0)], ["a client waited 9.0 s, more than 5 s"]),
    ],
)
def test_breaches(results: list[Result], breaches: list[str]) -> None:
    """Each way to break a policy is named."""
    policy = Policy("", {"200", LABEL}, complete=1, max_wait=5)
    assert find_breaches(Outcome(results, policy)) == breaches


def test_further_faults() -> None:
    """Faults that no response shows break the policy, too."""
    outcome = Outcome([COMPLETE], Policy("", {"200"}), ["its exit code is 1"])
    assert find_breaches(outcome) == ["its exit code is 1"]


def test_labels() -> None:
    """Results are counted by what a client sees, the most frequent first."""
    results = [
        Result("broken"),
        Result("no_connection"),
        Result("error_event", 200, "upstream_error"),
        COMPLETE,
        COMPLETE,
    ]
    assert count_labels(results) == {
        "200": 2,
        "connection cut": 1,
        "no connection": 1,
        "200 with error event upstream_error": 1,
    }


def test_scratch_settings(tmp_path: Path) -> None:
    """The scratch instance has nothing that leads to production, and tells what it changed."""
    settings = Settings.model_validate(
        {
            "engines": ["http://user:hunter2@gpu-1:8000"],
            "tracing": {"enabled": True},
            "server": {"host": "0.0.0.0", "workers": 8, "shutdown_timeout": 120},
            "auth": {"mode": "keys+jwt", "pepper": ["p" * 64]},
            "jwt": {
                "issuer": "https://id.example.org",
                "audiences": ["gateway"],
                "algorithms": ["RS256"],
            },
            "admission": {"slots": 64, "max_queue": 128},
            "database": {"url": "postgresql://gate:hunter2@db/gate"},
            "redis": {"url": "redis://:hunter2@cache"},
            "retries": {"budget_share": 0.1},
            "cards": [tmp_path],
            "alerts": {
                "webhook_url": "https://alerts.example.org",
                "webhook_secret": "whsec_" + "A" * 44,
            },
            "cache_dir": tmp_path,
        }
    )
    config, changes = build_config(settings)
    assert config == {
        "server": {
            "host": "127.0.0.1",
            "workers": 2,
            "shutdown_timeout": 10,
        },
        "auth": {"mode": "keys"},
        "admission": {"slots": 4, "max_queue": 8, "max_wait": 10},
        "database": {},
        "retries": {"budget_share": 0.1},
        "upstream": {
            "first_token_timeout": 3,
            "idle_timeout": 3,
            "response_timeout": 10,
            "unhealthy_probe_interval": 0.2,
            "probe_interval": 1,
            "discover_metrics": False,
        },
        "continuation": {"restart_window": 5},
        "telemetry": {"log_format": "json"},
        "cards": [str(tmp_path)],
        "cache_dir": str(tmp_path),
    }
    assert changes == [
        "jwt is left out",
        "alerts is left out",
        "tracing is left out",
        "server.shutdown_timeout 120 is 10",
        "server.workers 8 is 2",
        "admission.slots 64 is 4",
        "admission.max_queue 128 is 8",
        "auth.mode keys+jwt is keys",
    ]
