"""How much one core of each tool sustains."""

from collections.abc import Iterator

from benchmarks.loadtest.others import Tool
from benchmarks.loadtest.steps import Step, step
from maxgate.loadtest.mock_server.script import Script

_AT_MOST = 2048
_NEAR = 1.15  # of two neighbouring steps, when the search ends


def ladder(tool: Tool, script: Script, first: int, seconds: float) -> Iterator[Step]:
    """Twice as many at a time until it is off, then the middle of what is left, until it is small.

    Who is off at the first step goes down to half as many, to the least of one.
    """
    whole = script.output_times()[-1]
    fine, off = 0, 0
    concurrency = first
    while 1 <= concurrency <= _AT_MOST:
        done = step(tool, script, concurrency, max(16, round(concurrency * seconds / whole)))
        yield done
        if done.fine:
            fine = concurrency
        else:
            off = concurrency
        if not off:
            concurrency *= 2
        elif not fine:
            concurrency //= 2
        elif off / fine <= _NEAR or off - fine == 1:
            return
        else:
            concurrency = round((fine + off) / 2)


def capacity(chosen: list[Tool], script: Script, first: int, seconds: float) -> Iterator[str]:
    """A table: the most that was less than 1 % off, and the most at all."""
    yield "| tool | at a time | requests/s | chunks/s | off | next step | most, however late |"
    yield "|---|---|---|---|---|---|---|"
    for tool in chosen:
        steps = list(ladder(tool, script, first, seconds))
        yield f"| {tool.name} | {_best(steps)} | {_next(steps)} | {_most(steps, script)} |"


def _best(steps: list[Step]) -> str:
    fine = [one for one in steps if one.fine]
    if not fine:
        return "none | | | "
    best = max(fine, key=lambda one: one.concurrency)
    if best.true is None:  # pragma: no cover - a step that is fine has it
        return "none | | | "
    return (
        f"{best.concurrency} | {best.true.requests:.0f} | {best.true.chunks:.0f} | {best.off:.2%}"
    )


def _next(steps: list[Step]) -> str:
    """The least load that was off."""
    off = [one for one in steps if not one.fine]
    if not off:
        return "-"
    least = min(off, key=lambda one: one.concurrency)
    return f"{least.concurrency}: {least.problem or f'{least.off or 0:.2%}'}"


def _most(steps: list[Step], script: Script) -> str:
    rates = [one.true.requests for one in steps if one.true is not None]
    if not rates:
        return "-"
    return f"{max(rates):.0f} requests/s, {max(rates) * script.chunks:.0f} chunks/s"
