"""The charts as characters, through plotext."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, pairwise
from string import ascii_letters
from typing import Any, Final

import plotext

from maxgate.report.charts import nines
from maxgate.report.runs import Run
from maxgate.report.units import show
from maxgate.results.report import Level
from maxgate.results.summary import add_histograms

_HEIGHT: Final = 14
_NINES: Final = (50.0, 90.0, 99.0, 99.9)
Series = Sequence[tuple[str, Level]]
Drawn = tuple[Any, list[str]]
"""A figure, and what its letters stand for."""


def plots(runs: Sequence[Run], width: int, *, color: bool) -> Iterator[str]:
    """One block of lines per chart that has data."""
    series = [one for run in runs for one in run.series()]
    for draw in (_histograms, _percentiles, _timeline, _load, _errors):
        for figure, key in draw(series, width):
            text = str(figure.build()).rstrip("\n")
            yield "\n".join([text if color else plotext.uncolorize(text), *key])


def _figure(title: str, width: int, height: int = _HEIGHT) -> Any:
    # plotext has one figure for the whole process; clearing it makes it ours.
    figure = plotext.figure
    figure.clear()
    figure.theme("simple")
    figure.plot_size(width, height)
    figure.title(title)
    return figure


def _histograms(series: Series, width: int) -> Iterator[Drawn]:
    for metric, title in (("latency", "Latency"), ("ttft", "Time to first token")):
        found = [level.metrics[metric].histogram for _, level in series if metric in level.metrics]
        whole = add_histograms([one for one in found if one is not None])
        if whole is None:
            continue
        figure = _figure(f"{title}: requests by seconds, all levels", width)
        middles = [math.log10(math.sqrt(a * b)) for a, b in pairwise(whole.bounds)]
        figure.draw(figure.signal(middles, whole.counts, marker="full").fillx())
        _time_ticks(figure, "x", middles)
        yield figure, []


def _time_ticks(figure: Any, axis: str, values: Sequence[float]) -> None:
    """Ticks for values that are decimal logarithms of seconds."""
    low, high = min(values), max(values)
    steps = [low + (high - low) * k / 6 for k in range(7)] if high > low else [low]
    figure.ruler(axis).ticks(steps, [show(10**step, "s") for step in steps])


def _percentiles(series: Series, width: int) -> Iterator[Drawn]:
    curves = {n: lv.metrics["latency"].curve for n, lv in series if "latency" in lv.metrics}
    lines = {
        name: [(nines(percent), math.log10(max(value, 1e-6))) for percent, value in curve]
        for name, curve in curves.items()
        if len(curve) > 1
    }
    if not lines:
        return
    figure = _figure("Latency by percentile", width)
    key = _draw_lines(figure, lines)
    figure.ruler("x").ticks([nines(p) for p in _NINES], [f"P{p:g}" for p in _NINES])
    _time_ticks(figure, "y", [value for line in lines.values() for _, value in line])
    yield figure, key


def _draw_lines(figure: Any, lines: Mapping[str, Sequence[tuple[float, float]]]) -> list[str]:
    """Each line of its own letter, so that they can be told apart without colours too."""
    key = []
    for letter, (name, points) in zip(cycle(ascii_letters), lines.items(), strict=False):
        x, y = zip(*points, strict=True)
        figure.draw(figure.signal(list(x), list(y), marker=letter).lines())
        key.append(f"  {letter}  {name}")
    return key


def _timeline(series: Series, width: int) -> Iterator[Drawn]:
    for field, title, factor in (
        ("latency_p95", "P95 latency in milliseconds, by second", 1000),
        ("succeeded", "Answers per second, by second", 1),
    ):
        told = {
            name: [(second.offset, getattr(second, field)) for second in level.timeline]
            for name, level in series
        }
        lines = {
            name: [(offset, value * factor) for offset, value in points if value is not None]
            for name, points in told.items()
        }
        lines = {name: points for name, points in lines.items() if len(points) > 1}
        if lines:
            figure = _figure(title, width)
            yield figure, _draw_lines(figure, lines)


def _load(series: Series, width: int) -> Iterator[Drawn]:
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, level in series:
        point = (level.in_flight.mean, level.throughput.requests)
        lines.setdefault(name.removesuffix(level.name).rstrip(": "), []).append(point)
    lines = {name: sorted(points) for name, points in lines.items() if len(points) > 1}
    if lines:
        figure = _figure("Requests per second by requests in flight", width)
        yield figure, _draw_lines(figure, lines)


def _errors(series: Series, width: int) -> Iterator[Drawn]:
    kinds: dict[str, int] = {}
    for _, level in series:
        for kind, count in level.requests.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    if kinds:
        figure = _figure("Failed requests by kind", width, 3 + 2 * len(kinds))
        figure.draw(figure.bar(list(kinds), list(kinds.values()), orientation="h"))
        figure.ruler("x").lim(0, max(kinds.values()))
        yield figure, []
