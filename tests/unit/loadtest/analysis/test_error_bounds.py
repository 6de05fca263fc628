"""Error bounds of values that arrived while the client was busy."""

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
ANSWERS = st.lists(
    st.lists(st.tuples(st.floats(0.001, 10), SECONDS, SHARE), min_size=1, max_size=4), min_size=1
)


@given(ANSWERS)
def test_percentiles_within_bounds(
    answers: list[list[tuple[float, float, float]]],
) -> None:
    """True percentiles lie within the bounds, wherever the data really arrived."""
    measured, true = [], []
    for index, pieces in enumerate(answers):
        times = (1.0 + np.cumsum([gap for gap, _, _ in pieces])).tolist()
        held = np.array([held for _, held, _ in pieces])
        came = [at - held * share for at, (_, held, share) in zip(times, pieces, strict=True)]
        one, other = request_record(index, outputs=times), request_record(index, outputs=came)
        one.arrival_uncertainty[:] = type(one.arrival_uncertainty)("d", held.tolist())
        measured.append(one)
        true.append(other)
    found, right = records(*measured), records(*true)
    for metric in ("ttft", "latency", "tpot", "normalized_latency"):
        values, wanted = PER_REQUEST[metric](found), PER_REQUEST[metric](right)
        known = ~np.isnan(values)
        too_large, too_small = request_bounds(metric, found)
        check(
            values[known],
            wanted[known],
            error_bounds(values[known], (too_large[known], too_small[known])),
        )
    check(
        chunk_gaps(found),
        chunk_gaps(right),
        error_bounds(chunk_gaps(found), chunk_gap_bounds(found)),
    )


def check(measured: np.ndarray, true: np.ndarray, found: dict[str, float]) -> None:
    for key, bar in found.items():
        there, right = (percentile(np.sort(v), float(key)) for v in (measured, true))
        assert abs((there or 0.0) - (right or 0.0)) <= bar + 1e-9
    if len(measured):
        assert abs(measured.mean() - true.mean()) <= found["50"] + 1e-9


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
