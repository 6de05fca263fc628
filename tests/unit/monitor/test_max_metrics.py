"""Parsing of MAX's Prometheus metrics."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxgate.monitor.max_metrics import parse_max_metrics

MAX_TEXT = """\
# TYPE maxserve_num_requests_running gauge
maxserve_num_requests_running 3.0
# TYPE maxserve_request_count_total counter
maxserve_request_count_total{code="200",path="/v1/completions"} 5.0
maxserve_request_count_total{code="400",path="/v1/completions"} 2.0
# TYPE maxserve_cache_hits_tokens_total counter
maxserve_cache_hits_tokens_total{tier="g0"} 7.0
maxserve_cache_hits_tokens_total{tier="external"} 1.0
maxserve_cache_hits_tokens_total 8.0
# TYPE maxserve_batch_size histogram
maxserve_batch_size_bucket{batch_type="TG",le="4.0"} 10.0
maxserve_batch_size_bucket{batch_type="TG",le="+Inf"} 10.0
maxserve_batch_size_sum{batch_type="TG"} 30.0
maxserve_batch_size_count{batch_type="TG"} 10.0
# TYPE maxserve_time_to_first_token_milliseconds histogram
maxserve_time_to_first_token_milliseconds_bucket{le="50.0"} 4.0
maxserve_time_to_first_token_milliseconds_bucket{le="100.0"} 6.0
maxserve_time_to_first_token_milliseconds_bucket{le="+Inf"} 6.0
maxserve_time_to_first_token_milliseconds_sum 250.0
# TYPE other gauge
other 1.0
"""


def test_reading() -> None:
    """Labels are summed, batches are split by kind, and durations are in seconds."""
    reading = parse_max_metrics("http://max", MAX_TEXT)
    assert (reading.url, reading.error) == ("http://max", None)
    assert reading.gauges == {"running": 3}
    assert reading.counters == {"requests": 7, "cache_hit_tokens": 8}
    assert {name: (h.buckets, h.total) for name, h in reading.histograms.items()} == {
        "batch_size_decode": (((0, 4, 10),), 30),
        "time_to_first_token": (((0, 0.05, 4), (0.05, 0.1, 2)), 0.25),
    }


@pytest.mark.parametrize("text", ["", "other 1.0\n"])
def test_metrics_of_other_servers(text: str) -> None:
    """Text without metrics of MAX is rejected."""
    with pytest.raises(ValueError, match="no MAX metrics"):
        parse_max_metrics("http://max", text)


@given(st.text() | st.text().map(lambda text: MAX_TEXT + text))
def test_any_text(text: str) -> None:
    """Any text gives a reading or a ValueError."""
    with suppress(ValueError):
        assert parse_max_metrics("http://max", text).url == "http://max"
