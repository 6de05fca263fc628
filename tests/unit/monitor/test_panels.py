"""Sparklines and bars."""

import pytest

from maxgate.monitor.panels import bar, sparkline


@pytest.mark.parametrize(
    ("values", "width", "blocks"),
    [
        ([], 4, "    "),
        ([0.0, None, 4.0, 8.0], 6, "  ▁ ▄▇"),
        ([0.0, 0.0], 2, "▁▁"),
        ([1.0, 8.0, 2.0, 2.0], 2, "▇▂"),
        ([1.0], 0, ""),
    ],
)
def test_sparkline(values: list[float | None], width: int, blocks: str) -> None:
    """A sparkline keeps its peaks at any width."""
    assert sparkline(values, width) == blocks


def test_bar() -> None:
    """A bar is never longer than its width."""
    assert [bar(share, 4) for share in (-1, 0.5, 7)] == ["╌╌╌╌", "━━╌╌", "━━━━"]
