"""The catalogue of metrics, its documentation, and the format of values."""

import re

import pytest

from maxgate.monitor.catalogue import METRICS, format_value
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("gateway.ttft_p95", 0.0123, "12.3 ms"),
        ("gateway.ttft_p95", 0.4123, "412 ms"),
        ("gateway.ttft_p95", 1.2, "1.20 s"),
        ("gateway.error_share", 0.0, "0 %"),
        ("gateway.error_share", 0.0012, "0.1 %"),
        ("max.kv_used", 0.97, "97 %"),
        ("gateway.memory", 2**30 * 1.5, "1.5 GiB"),
        ("gateway.memory", 2**27, "128 MiB"),
        ("gateway.output_tokens", 1234.5, "1,234/s"),
        ("gateway.requests", 2.345, "2.35/s"),
        ("max.running", 8.0, "8"),
        ("max.queued", 12.34, "12.3"),
        ("gpu.power", 312.4, "312 W"),
    ],
)
def test_format_value(name: str, value: float, text: str) -> None:
    """Values are formatted with their unit."""
    assert format_value(name, value) == text


def test_descriptions() -> None:
    """Every metric has a description."""
    assert all(metric.description for metric in METRICS.values())


def test_documented_metrics() -> None:
    """The table in docs/monitoring.md equals the catalogue."""
    page = (ROOT / "docs" / "monitoring.md").read_text()
    table = re.search(r"<!-- metrics:.*?-->\n(.*?)\n<!-- /metrics -->", page, re.DOTALL)
    assert table is not None
    rows = [line.split(" | ") for line in table[1].splitlines()[2:]]
    cells = [[cell.strip("| ") for cell in row] for row in rows]
    assert cells == [[f"`{name}`", m.unit, m.description] for name, m in METRICS.items()]
