"""The ways of showing: once, line by line, on the whole screen."""

import sys
from collections.abc import Sequence
from contextlib import aclosing

import orjson

from maxgate.tools.monitor.answer import answer
from maxgate.tools.monitor.feed import Target, open_feed
from maxgate.tools.monitor.plain import PlainLines, page
from maxgate.tools.monitor.rules import Rule
from maxgate.tools.monitor.watch import View, Watch

_LOOKS = 2  # rates need two


async def show_once(target: Target, rules: Sequence[Rule], window: float, *, as_json: bool) -> int:
    """Print one look, or the end of a recording; 1 if the gateway was away, else 0."""
    watch, view = Watch(target.shown_url, rules, window), None
    async with open_feed(target) as feed, aclosing(feed) as snapshots:
        looks = 0
        async for snapshot in snapshots:
            view = watch.see(snapshot)
            looks += 1
            if target.recording is None and (looks == _LOOKS or view.away_since is not None):
                break
    assert view is not None, "every feed has at least one snapshot"  # noqa: S101
    print(_json(view) if as_json else "\n".join(page(view)))
    return 0 if view.away_since is None else 1


def _json(view: View) -> str:
    return orjson.dumps(answer(view), option=orjson.OPT_INDENT_2).decode()


async def show_lines(target: Target, rules: Sequence[Rule], window: float) -> None:
    """Print a line per look, until it is interrupted or the recording ends."""
    watch, plain = Watch(target.shown_url, rules, window), PlainLines()
    async with open_feed(target) as feed, aclosing(feed) as snapshots:
        async for snapshot in snapshots:
            for line in plain.lines(watch.see(snapshot)):
                print(line, flush=True)


async def show_screen(target: Target, rules: Sequence[Rule], window: float) -> None:
    """Run the dashboard until it is quit."""
    from maxgate.tools.monitor.dashboard import Dashboard  # noqa: PLC0415  # slow to import

    async with open_feed(target) as feed:
        await Dashboard(feed, Watch(target.shown_url, rules, window)).run_async()


def is_terminal() -> bool:
    """Whether both ends are a terminal that can be drawn on."""
    return sys.stdin.isatty() and sys.stdout.isatty()
