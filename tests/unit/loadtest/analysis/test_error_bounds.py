"""Error bounds of values that arrived while the client was busy."""

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.loadtest.analysis.error_bounds import chunk_gap_bounds, error_bounds, request_bounds
from maxgate.loadtest.analysis.metrics import PER_REQUEST, chunk_gaps
from maxgate.results.distribution import ClientError
from maxgate.results.statistics import percentile
from tests.fakes.load_records import records, request_record

SECONDS = st.floats(0, 10)
SHARE = st.floats(0, 1)
RESPONSES = st.lists(
    st.lists(st.tuples(st.floats(0.001, 10), SECONDS, SHARE), min_size=1, max_size=4), min_size=1
)


@given(RESPONSES)
def test_percentiles_within_bounds(responses: list[list[tuple[float, float, float]]]) -> None:
    """True percentiles lie within the bounds, wherever the data really arrived."""
    requests, true_requests = [], []
    for index, outputs in enumerate(responses):
        stamps = 1.0 + np.cumsum([gap for gap, _, _ in outputs])
        uncertainty = np.array([seconds for _, seconds, _ in outputs])
        arrivals = stamps - uncertainty * [share for _, _, share in outputs]
        request = request_record(index, outputs=stamps.tolist())
        request.arrival_uncertainty = array("d", uncertainty.tolist())
        requests.append(request)
        true_requests.append(request_record(index, outputs=arrivals.tolist()))
    measured, true = records(*requests), records(*true_requests)
    for metric in ("ttft", "latency", "tpot", "normalized_latency"):
        values, true_values = PER_REQUEST[metric](measured), PER_REQUEST[metric](true)
        known = ~np.isnan(values)
        too_large, too_small = (bound[known] for bound in request_bounds(metric, measured))
        bounds = error_bounds(values[known], (too_large, too_small))
        assert_within(bounds, values[known], true_values[known])
    gaps = chunk_gaps(measured)
    assert_within(error_bounds(gaps, chunk_gap_bounds(measured)), gaps, chunk_gaps(true))


def assert_within(bounds: dict[str, float], measured: np.ndarray, true: np.ndarray) -> None:
    """Assert that percentiles and mean differ by no more than their bound."""
    for key, bound in bounds.items():
        value, true_value = (percentile(np.sort(v), float(key)) or 0.0 for v in (measured, true))
        assert abs(value - true_value) <= bound + 1e-9
    if len(measured):
        assert abs(measured.mean() - true.mean()) <= bounds["50"] + 1e-9


def test_burst_widens_only_its_percentiles() -> None:
    """Ten simultaneous outputs of a hundred widen only the bounds from P95 on."""
    quiet = [request_record(i, outputs=(1.05,)) for i in range(90)]
    burst = [request_record(90 + i, outputs=(3.0 + i / 1000,)) for i in range(10)]
    for i, one in enumerate(burst):
        one.arrival_uncertainty[0] = i / 1000
    found = records(*quiet, *burst)
    latency = PER_REQUEST["latency"](found)
    by_percentile = error_bounds(latency, request_bounds("latency", found))
    assert by_percentile["50"] == by_percentile["90"] == pytest.approx(0.00045)
    assert by_percentile["95"] == pytest.approx(0.004)
    assert by_percentile["99"] == pytest.approx(0.008)


def test_client_error_includes_bounds() -> None:
    """The error of a percentile is the larger of its bound and the calibrated error."""
    error = ClientError(
        bias=0.0, mean=0.1, p99=0.3, p999=0.5, max=0.6, count=9, held={"50": 0.1, "90": 0.4}
    )
    assert [error.at(key) for key in ("50", "90", "99", "99.9")] == [0.3, 0.5, 0.3, 0.5]


def test_bounds_of_several_machines() -> None:
    """Merging keeps the larger bound of each percentile."""
    one = ClientError(bias=0, mean=0, p99=0, max=0, count=1, held={"50": 1.0, "90": 2.0})
    other = one.model_copy(update={"held": {"50": 3.0}})
    assert one.elementwise_max(other).held == {"50": 3.0, "90": 2.0}
