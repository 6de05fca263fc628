"""A canary as text."""

import json
from typing import Any

import pytest

from maxgate.cli.canary_report import describe_progress, describe_result

REPORT: dict[str, Any] = {
    "url": "http://new:8000",
    "mirror": True,
    "share": 5.0,
    "state": "running",
    "workers": 2,
    "seconds": 61.4,
    "requests": 200,
    "completed": 200,
    "seen": 5000,
    "skipped": {"busy": 3, "not_greedy": 1100},
    "errors": 1,
    "causes": {"timeout": 1},
    "agreement": {
        "responses": 199,
        "equal": 180,
        "near_ties": 15,
        "different": 4,
        "unexplained": 1,
        "share": {"value": 97.99, "low": 94.9, "high": 99.2},
        "mean_prefix": 96.2,
        "median_divergence": 41.0,
        "median_gap": 0.125,
    },
    "times": [
        {
            "metric": "ttft",
            "samples": 199,
            "old": {"value": 0.0412, "low": 0.04, "high": 0.042},
            "new": {"value": 0.039, "low": None, "high": None},
            "slowdown": {"value": -5.3, "low": -6.0, "high": 1.0},
        }
    ],
    "checks": [{"name": "errors", "verdict": "pass", "reason": "0.5 % failed"}],
    "verdict": "pass",
}
TEXT = """\
http://new:8000: 5 % of the greedy requests mirrored, 200 requests in 61 s, workers: 2

responses   199: 180 equal, 15 near ties, 4 different
agreement   98.0 % (94.9 to 99.2)
prefix      96.2 % of a response agrees, in the mean
difference  at token 41 in the median, with a log probability gap of 0.125 between the two \
likeliest tokens
            1 without log probabilities

MEDIAN            SAMPLES  NORMAL                  NEW      CHANGE
first-token time  199      41.2 ms (40.0 to 42.0)  39.0 ms  -5.3 % (-6.0 to +1.0)

errors of the new engine: 1 (timeout 1)
skipped of 5,000 requests: 1,103 (the new engine was too slow 3, not greedy 1,100)

verdict: pass
  errors     pass          0.5 % failed"""


def test_result() -> None:
    """The result has the agreement, the times, what was left out, and the verdict."""
    assert describe_result(REPORT) == TEXT


def test_result_without_samples() -> None:
    """Tables without content are left out."""
    empty = {**REPORT, "mirror": False, "agreement": None, "times": [], "state": "halted"}
    assert describe_result({**empty, "errors": 0, "causes": {}, "skipped": {}}) == (
        "http://new:8000: 5 % of the requests served, 200 requests in 61 s, workers: 2\n"
        "\n"
        "errors of the new engine: 0\n"
        "skipped of 5,000 requests: 0\n"
        "\n"
        "verdict: pass\n"
        "  errors     pass          0.5 % failed"
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            "200 of 200 requests at http://new:8000, 180 equal, 1 failed, 5,000 seen, "
            "1,103 skipped, 61 s",
        ),
        (
            {"agreement": None},
            "200 of 200 requests at http://new:8000, 1 failed, 5,000 seen, 1,103 skipped, 61 s",
        ),
        ({"state": "starting"}, "waiting for the models of http://new:8000"),
    ],
)
def test_progress(changes: dict[str, Any], line: str) -> None:
    """The progress is one line."""
    assert describe_progress(json.loads(json.dumps({**REPORT, **changes}))) == line
