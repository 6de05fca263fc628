"""Drift detection."""

import numpy as np
import pytest
from scipy import stats

from maxgate.loadtest.analysis.drift import detect_drift, theil_sen
from maxgate.results.distribution import ClientError
from tests.fakes.load_records import steady
from tests.unit.loadtest.analysis.test_level_report import report


def test_theil_sen() -> None:
    """Slope and interval agree with scipy."""
    rng = np.random.default_rng(2)
    x = np.arange(60.0)
    y = 0.3 * x + rng.normal(0, 4, 60)
    expected = stats.theilslopes(y, x, 0.95)
    assert theil_sen(x, y) == pytest.approx(
        (expected.slope, expected.low_slope, expected.high_slope), rel=0.02
    )


@pytest.mark.parametrize(("per_second", "verdict"), [(0.0, "steady"), (0.001, "growing")])
def test_growing_latency(per_second: float, verdict: str) -> None:
    """A rising latency is growing, and outliers alone are not."""
    rng = np.random.default_rng(4)
    times = 0.1 + per_second * np.arange(600) / 10 + rng.normal(0, 1e-6, 600)
    times[::97] += 2.0
    (latency, _, _) = detect_drift(report(steady(times.tolist())))
    assert (latency.metric, latency.verdict) == ("latency", verdict)


@pytest.mark.parametrize(("p99", "verdict"), [(0.05, "growing"), (0.07, "unclear")])
def test_drift_below_client_error(p99: float, verdict: str) -> None:
    """A drift of 0.06 s is unclear if the client's own error is larger."""
    times = 0.1 + 0.001 * np.arange(600) / 10
    error = ClientError(bias=0, mean=0.001, p99=p99, max=p99, count=100)
    (latency, _, _) = detect_drift(report(steady(times.tolist()), client_errors={"latency": error}))
    assert latency.verdict == verdict
