"""Draw charts as lines of text, with block characters or with ASCII alone."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from maxgate.report.curves import MAX_COLORS, Moment, build_curves, list_moments
from maxgate.report.formatting import DurationUnit, choose_duration_unit, format_number
from maxgate.report.runs import Run, Series, name_levels
from maxgate.results.distribution import Histogram

_MAX_ROWS: Final = 16
_MAX_NAME: Final = 32


@dataclass(frozen=True, slots=True)
class Glyphs:
    """Characters for heights from zero to full, and for a full bar."""

    heights: str
    bar: str


UNICODE: Final = Glyphs(" ▁▂▃▄▅▆▇█", "█")
ASCII: Final = Glyphs(" .:-=+*#@", "#")


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines below a title; each line has a label, the drawing, and text after it."""

    title: str
    lines: Sequence[tuple[str, str, str]]


def draw_plots(runs: Sequence[Run], width: int, glyphs: Glyphs) -> Iterator[Plot]:
    """Yield each plot that has data, at most `width` columns wide."""
    yield from _draw_distributions([*name_levels(runs)], width, glyphs)
    yield from _draw_timelines(runs, width, glyphs)


def draw_bar(value: float, top: float, width: int, glyphs: Glyphs) -> str:
    """Draw a bar of at most `width` characters; a positive value has at least one."""
    if value <= 0 or top <= 0:
        return ""
    return glyphs.bar * max(1, round(width * value / top))


def draw_heights(values: Sequence[float | None], glyphs: Glyphs) -> str:
    """Draw one character per value, scaled from zero to the maximum; blank for None."""
    top = max((value for value in values if value is not None), default=0.0)
    steps = len(glyphs.heights) - 1
    return "".join(
        " " if value is None or value <= 0 else glyphs.heights[max(1, round(steps * value / top))]
        for value in values
    )


def _draw_distributions(series: Series, width: int, glyphs: Glyphs) -> Iterator[Plot]:
    for metric, title in (("latency", "E2E latency"), ("ttft", "TTFT")):
        found = [
            (name, distribution.histogram)
            for name, level in series
            if (distribution := level.find_metric(metric))
        ]
        histograms = [(name, one) for name, one in found if one is not None][-_MAX_ROWS:]
        if not histograms:
            continue
        low = min(one.bounds[0] for _, one in histograms)
        high = max(one.bounds[-1] for _, one in histograms)
        unit = choose_duration_unit([high])
        room = width - min(max(len(name) for name, _ in histograms), _MAX_NAME) - 4
        part = f", last {len(histograms)} levels" if len(histograms) < len(found) else ""
        lines = [
            (name, draw_heights(_resample(one, low, high, room), glyphs), "")
            for name, one in histograms
        ]
        axis = ("", _draw_axis(low, high, room, unit), "")
        yield Plot(f"Distribution of {title}, {unit.name}, log scale{part}", [*lines, axis])


def _resample(histogram: Histogram, low: float, high: float, width: int) -> list[float | None]:
    """Spread the counts over `width` columns of equal ratio."""
    columns = [0.0] * width
    scale = width / math.log(high / low)
    for (start, end), count in zip(pairwise(histogram.bounds), histogram.counts, strict=True):
        first, last = scale * math.log(start / low), scale * math.log(end / low)
        for column in range(int(first), min(math.ceil(last), width)):
            share = (min(last, column + 1) - max(first, column)) / (last - first)
            columns[column] += count * max(share, 0.0)
    return list(columns)


def _draw_axis(low: float, high: float, width: int, unit: DurationUnit) -> str:
    count = max(2, width // 16)
    text = ""
    for k in range(count):
        label = unit.format(low * (high / low) ** (k / (count - 1)))
        column = round(k * (width - 1) / (count - 1)) - (len(label) - 1 if k == count - 1 else 0)
        text = text.ljust(column) + label
    return text[:width]


def _draw_timelines(runs: Sequence[Run], width: int, glyphs: Glyphs) -> Iterator[Plot]:
    curves = build_curves(runs)
    moments = {curve.name: list(list_moments(curve)) for curve in curves}
    moments = {name: found for name, found in moments.items() if len(found) > 1}
    if not moments or len(moments) > MAX_COLORS:
        return
    end = max(one.second + one.width for found in moments.values() for one in found)
    tail = 18
    room = width - min(max(map(len, moments)), _MAX_NAME) - tail - 4
    unit = choose_duration_unit(
        one.latency_p95 or 0.0 for found in moments.values() for one in found
    )
    panels: Sequence[tuple[str, Callable[[Moment], float | None], float]] = (
        ("Output tokens/s", lambda one: one.output_tokens, 1.0),
        (f"E2E latency P95, {unit.name}", lambda one: one.latency_p95, unit.factor),
    )
    for title, read, factor in panels:
        if not any(read(moment) for found in moments.values() for moment in found):
            continue
        lines = []
        for name, found in moments.items():
            columns: list[float | None] = [None] * room
            for moment in found:
                value = read(moment)
                if value is None:
                    continue
                first = moment.second * room // end
                last = max((moment.second + moment.width) * room // end, first + 1)
                for column in range(first, min(last, room)):
                    columns[column] = max(columns[column] or 0.0, value * factor)
            top = max((value for value in columns if value is not None), default=0.0)
            lines.append((name, draw_heights(columns, glyphs), f"max {format_number(top)}"))
        axis = f"0 s{f'{end} s':>{max(room - 3, 1)}}"
        yield Plot(f"{title} over time", [*lines, ("", axis, "")])
