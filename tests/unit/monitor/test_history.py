"""The window, trends and usual values."""

from maxgate.monitor.history import History
from tests.unit.monitor.examples import gateway, snapshot


def fill(*in_flight: int, window: float = 2) -> History:
    """A history with one snapshot per second."""
    history = History(window)
    for at, value in enumerate(in_flight):
        history.add(snapshot(at, gateway(at, in_flight=value)))
    return history


def test_empty_history() -> None:
    """A history without snapshots knows no metrics."""
    history = History(2)
    assert (history.metrics, history.snapshots) == ({}, ())
    assert history.trend("gateway.in_flight", 3) == []
    assert history.usual_value("gateway.in_flight") is None


def test_window() -> None:
    """The snapshots cover the window exactly."""
    assert [one.elapsed for one in fill(1, 1, 1, 1, 1).snapshots] == [2, 3, 4]


def test_trend() -> None:
    """A trend has the last values, oldest first, and None for unknown ones."""
    history = fill(1, 3)
    history.add(snapshot(2))
    assert history.trend("gateway.in_flight", 3) == [1, 2, None]
    assert history.trend("gateway.up", 2) == [1, 0]


def test_usual_value() -> None:
    """The usual value is the median before the window, from three values on."""
    assert fill(4, 4, 4, 9).usual_value("gateway.in_flight") is None
    assert fill(4, 4, 4, 9, 9).usual_value("gateway.in_flight") == 4
