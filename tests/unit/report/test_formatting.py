"""Tests of values as text."""

import pytest

from maxgate.report.formatting import count_nines, cut_middle, format_relative_change, format_value


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "-"),
        (123.4, "s", "123 s"),
        (1.234, "s", "1.23 s"),
        (0.4123, "s", "412 ms"),
        (0.0123, "s", "12.3 ms"),
        (0.000123, "s", "0.123 ms"),
        (-0.05, "s", "-50.0 ms"),
        (0.00123, "share", "0.123 %"),
        (1234.5, "/s", "1,234/s"),
        (12.34, "requests/s", "12.3/s"),
        (999.7, "/s", "1,000/s"),
        (12345.0, "tokens", "12,345 tokens"),
        (37.0, "tokens", "37 tokens"),
    ],
)
def test_format_value(value: float | None, unit: str, text: str) -> None:
    """Values have three significant digits and a readable unit."""
    assert format_value(value, unit) == text


def test_format_relative_change() -> None:
    """Relative changes are signed percentages."""
    assert [format_relative_change(share) for share in (0.1234, -0.01, None)] == [
        "+12.3 %", "-1.0 %", "-",
    ]  # fmt: skip


def test_count_nines() -> None:
    """Percentiles with one more nine are one unit apart, and 100 % stays finite."""
    nines = [count_nines(percent) for percent in (0, 90, 99, 99.9, 100)]
    assert nines == pytest.approx([0, 1, 2, 3, 9])


@pytest.mark.parametrize(
    ("limit", "cut"),
    [(13, "run of Monday"), (12, "run of…onday"), (3, "r…y"), (1, "…"), (-2, "…")],
)
def test_cut_middle(limit: int, cut: str) -> None:
    """A long name keeps both of its ends."""
    assert cut_middle("run of Monday", limit) == cut
