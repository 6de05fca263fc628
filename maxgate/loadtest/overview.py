"""The head of a run: what is going to run against which server, and for how long."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from maxgate.loadtest.levels import plan_levels
from maxgate.loadtest.messages import Target
from maxgate.loadtest.options import Options

_OVERHEAD: Final = 2.5
"""Seconds per level for warm-up, the start of the mock server and the statistics."""


def format_seconds(seconds: float) -> str:
    """Such as `45 s`, `3 min 5 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def estimate_seconds(options: Options) -> float | None:
    """The duration of the whole run; None if the speed of the server decides."""
    if options.sweep:
        return None
    total = 0.0
    for spec in plan_levels(options):
        seconds = spec.load.duration
        if seconds is None and spec.load.kind == "open" and spec.load.requests is not None:
            seconds = (spec.load.requests + spec.load.warmup) / spec.load.rate
        if seconds is None or (spec.load.kind == "closed" and spec.load.requests is not None):
            return None
        total += seconds + options.calibration + _OVERHEAD
    return total


def describe_run(
    options: Options, targets: Sequence[Target], output: Path, *, now: datetime
) -> list[str]:
    """The lines of the head; `now` is a local time, for the time of the end."""
    rows = [
        ("target", _describe_target(targets[0])),
        *(("baseline", _describe_target(target)) for target in targets[1:]),
        ("scenario", _describe_scenarios(options)),
        ("load", "; ".join(_describe_load(options))),
        ("time", _describe_time(options, now)),
        ("report", str(output)),
    ]
    return [f"{name:9} {text}" for name, text in rows]


def _describe_target(target: Target) -> str:
    return f"{target.url}, model {target.model or 'not set: the server lists none'}"


def _describe_scenarios(options: Options) -> str:
    tokens = f"max_tokens {options.max_tokens}" if options.max_tokens else "no max_tokens"
    if any(Path(scenario).is_file() for scenario in options.scenarios):
        tokens += " where the file has none"
    kind = "streamed" if options.stream else "not streamed"
    return f"{', '.join(options.scenarios)} ({kind}, {tokens}, seed {options.seed})"


def _describe_load(options: Options) -> Iterator[str]:
    specs = plan_levels(options)
    names = list(dict.fromkeys(spec.name for spec in specs))
    loop = "closed loop" if specs[0].load.kind == "closed" else "open loop"
    if options.sweep:
        yield f"sweep, {loop}: from {names[0]} until the server saturates"
    else:
        yield f"{loop}: {', '.join(names)}"
    length = []
    if specs[0].load.duration is not None:
        length.append(format_seconds(specs[0].load.duration))
    if options.requests is not None:
        length.append(f"{options.requests} requests")
    each = " or ".join(length) or "the whole recording"
    yield f"{each} each" if len(specs) > 1 or options.sweep else each
    if len(specs) > 1 and not options.sweep:
        yield f"{len(specs)} levels"


def _describe_time(options: Options, now: datetime) -> str:
    seconds = estimate_seconds(options)
    if seconds is None:
        return "depends on the server; Ctrl-C ends the run and keeps its results"
    if options.start_at is not None:
        return f"about {format_seconds(seconds)} from the common start"
    end = now + timedelta(seconds=seconds)
    return f"about {format_seconds(seconds)}, until {end:%H:%M:%S}; Ctrl-C keeps the results so far"
