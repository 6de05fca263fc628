"""Draw charts as text for the terminal, with plotext."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, pairwise
from string import ascii_letters
from typing import Any, Final

import plotext

from maxgate.report.formatting import count_nines, format_value
from maxgate.report.runs import Run, Series
from maxgate.results.summary import add_histograms

_HEIGHT: Final = 14
_LABELED_PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)

Plot = tuple[Any, list[str]]
"""A plotext figure and its legend lines."""


def draw_plots(runs: Sequence[Run], width: int, *, color: bool) -> Iterator[str]:
    """Yield each plot that has data as a block of lines."""
    series = [one for run in runs for one in run.name_levels()]
    for draw in (_draw_histograms, _draw_percentiles, _draw_timeline, _draw_load, _draw_errors):
        for figure, legend in draw(series, width):
            text = str(figure.build()).rstrip("\n")
            yield "\n".join([text if color else plotext.uncolorize(text), *legend])


def _create_figure(title: str, width: int, height: int = _HEIGHT) -> Any:
    figure = plotext.figure  # one per process
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, height)
    figure.title(title)
    return figure


def _draw_histograms(series: Series, width: int) -> Iterator[Plot]:
    for metric, title in (("latency", "Latency"), ("ttft", "Time to first token")):
        found = [level.metrics[metric].histogram for _, level in series if metric in level.metrics]
        total = add_histograms([one for one in found if one is not None])
        if total is None:
            continue
        figure = _create_figure(f"{title} histogram, all levels", width)
        middles = [math.log10(math.sqrt(a * b)) for a, b in pairwise(total.bounds)]
        figure.draw(figure.signal(middles, total.counts, marker="full").fillx())
        _label_time_axis(figure, "x", middles)
        yield figure, []


def _draw_percentiles(series: Series, width: int) -> Iterator[Plot]:
    curves = {
        name: level.metrics["latency"].curve for name, level in series if "latency" in level.metrics
    }
    lines = {
        name: [(count_nines(percent), math.log10(max(value, 1e-6))) for percent, value in curve]
        for name, curve in curves.items()
        if len(curve) > 1
    }
    if not lines:
        return
    figure = _create_figure("Latency percentiles", width)
    legend = _draw_lines(figure, lines)
    positions = [count_nines(percent) for percent in _LABELED_PERCENTILES]
    figure.ruler("x").ticks(positions, [f"P{percent:g}" for percent in _LABELED_PERCENTILES])
    _label_time_axis(figure, "y", [value for line in lines.values() for _, value in line])
    yield figure, legend


def _label_time_axis(figure: Any, axis: str, values: Sequence[float]) -> None:
    """Set ticks on an axis whose values are decimal logarithms of seconds."""
    low, high = min(values), max(values)
    steps = [low + (high - low) * k / 6 for k in range(7)] if high > low else [low]
    figure.ruler(axis).ticks(steps, [format_value(10**step, "s") for step in steps])


def _draw_lines(figure: Any, lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Draw each line with its own letter, readable without colors, and return the legend."""
    legend = []
    for letter, (name, points) in zip(cycle(ascii_letters), lines.items(), strict=False):
        x, y = zip(*points, strict=True)
        figure.draw(figure.signal(list(x), list(y), marker=letter).lines())
        legend.append(f"  {letter}  {name}")
    return legend


def _draw_timeline(series: Series, width: int) -> Iterator[Plot]:
    for field, title, factor in (
        ("latency_p95", "P95 latency over time, ms", 1000),
        ("succeeded", "Responses per second over time", 1),
    ):
        lines = {
            name: [
                (second.offset, value * factor)
                for second in level.timeline
                if (value := getattr(second, field)) is not None
            ]
            for name, level in series
        }
        lines = {name: points for name, points in lines.items() if len(points) > 1}
        if lines:
            figure = _create_figure(title, width)
            yield figure, _draw_lines(figure, lines)


def _draw_load(series: Series, width: int) -> Iterator[Plot]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, level in series:
        point = (level.in_flight.mean, level.throughput.requests)
        lines.setdefault(name.removesuffix(level.name).rstrip(": "), []).append(point)
    lines = {name: sorted(points) for name, points in lines.items() if len(points) > 1}
    if lines:
        figure = _create_figure("Requests per second by requests in flight", width)
        yield figure, _draw_lines(figure, lines)


def _draw_errors(series: Series, width: int) -> Iterator[Plot]:
    kinds: dict[str, int] = {}
    for _, level in series:
        for kind, count in level.requests.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    if kinds:
        figure = _create_figure("Failed requests by kind", width, 3 + 2 * len(kinds))
        figure.draw(figure.bar(list(kinds), list(kinds.values()), orientation="h"))
        figure.ruler("x").lim(0, max(kinds.values()))
        yield figure, []
