"""Search for the highest load that one core of each tool sustains accurately."""

from collections.abc import Iterator
from typing import Final

from benchmarks.loadtest.others import Tool
from benchmarks.loadtest.steps import Step, run_step
from maxgate.loadtest.mock_server.script import Script

_MAX_CONCURRENCY: Final = 2048
_MAX_RATIO: Final = 1.15  # of the two steps around the limit, when the search ends


def search_limit(tool: Tool, script: Script, first: int, seconds: float) -> Iterator[Step]:
    """The steps of the search: double the concurrency until inaccurate, then bisect.

    If the first step is inaccurate, halve the concurrency instead, down to 1.
    """
    response_seconds = script.output_times()[-1]
    accurate, inaccurate = 0, 0
    concurrency = first
    while 1 <= concurrency <= _MAX_CONCURRENCY:
        result = run_step(
            tool, script, concurrency, max(16, round(concurrency * seconds / response_seconds))
        )
        yield result
        if result.accurate:
            accurate = concurrency
        else:
            inaccurate = concurrency
        if not inaccurate:
            concurrency *= 2
        elif not accurate:
            concurrency //= 2
        elif inaccurate / accurate <= _MAX_RATIO or inaccurate - accurate == 1:
            return
        else:
            concurrency = round((accurate + inaccurate) / 2)


def measure_capacity(
    chosen: list[Tool], script: Script, first: int, seconds: float
) -> Iterator[str]:
    """A table: the highest accurate load, and the highest load at any accuracy."""
    columns = ("tool", "concurrency", "requests/s", "chunks/s", "error", "next step")
    yield f"| {' | '.join(columns)} | maximum at any accuracy |"
    yield "|---|---|---|---|---|---|---|"
    for tool in chosen:
        steps = list(search_limit(tool, script, first, seconds))
        yield f"| {tool.name} | {_best(steps)} | {_next(steps)} | {_maximum(steps, script)} |"


def _best(steps: list[Step]) -> str:
    """The accurate step with the highest load."""
    best = max(
        (one for one in steps if one.accurate), key=lambda one: one.concurrency, default=None
    )
    if best is None or best.true is None:
        return "none | | | "
    rates = f"{best.true.requests:.0f} | {best.true.chunks:.0f}"
    return f"{best.concurrency} | {rates} | {best.error:.2%}"


def _next(steps: list[Step]) -> str:
    """The inaccurate step with the lowest load."""
    inaccurate = [one for one in steps if not one.accurate]
    if not inaccurate:
        return "-"
    lowest = min(inaccurate, key=lambda one: one.concurrency)
    return f"{lowest.concurrency}: {lowest.problem or f'{lowest.error or 0:.2%}'}"


def _maximum(steps: list[Step], script: Script) -> str:
    rates = [one.true.requests for one in steps if one.true is not None]
    if not rates:
        return "-"
    return f"{max(rates):.0f} requests/s, {max(rates) * script.chunks:.0f} chunks/s"
