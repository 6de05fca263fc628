"""What a run was asked for, checked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from maxgate.errors import ConfigurationError
from maxgate.loadtest.analysis.targets import seconds
from maxgate.loadtest.arrivals import Arrivals
from maxgate.loadtest.messages import LoadShape
from maxgate.results.report import LoadKind

DEFAULT_DURATION = 15.0
DEFAULT_CONCURRENCY = 8


@dataclass(frozen=True)
class Options:
    """All flags; seconds and counts."""

    url: str = "http://localhost:8000"
    model: str | None = None
    api_key: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    baseline: str | None = None
    baseline_model: str | None = None
    scenarios: tuple[str, ...] = ("short", "medium", "long")
    stream: bool = True
    max_tokens: int | None = 32
    extra: dict[str, Any] = field(default_factory=dict)
    cold: bool = False
    tokenizer: str | None = None
    concurrency: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    arrivals: Arrivals = "constant"
    replay: bool = False
    speed: float = 1.0
    sweep: bool = False
    soak: bool = False
    duration: float | None = None
    requests: int | None = None
    warmup: int | None = None
    timeout: float = 120.0
    grace: float = 30.0
    seed: int = 0
    processes: int = 1
    shard: tuple[int, int] = (0, 1)
    start_at: float | None = None
    """Seconds since 1970."""
    calibration: float = 3.0
    """Seconds against the scripted server, half before each level, half after it; 0 for none."""
    objectives: dict[str, float] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    compare: Path | None = None
    output: Path | None = None
    csv: Path | None = None
    prometheus: Path | None = None
    records: bool = True
    quiet: bool = False
    json: bool = False

    def check(self) -> None:
        """Raises ConfigurationError for flags that contradict each other, or do nothing."""
        for wrong, why in self._mistakes():
            if wrong:
                raise ConfigurationError(why)

    def _mistakes(self) -> Iterator[tuple[object, str]]:
        yield (
            self.rates and self.concurrency,
            "--rate and --concurrency: a load has a rate (open loop) or a number at a time "
            "(closed loop), not both",
        )
        yield (
            self.replay and (self.rates or self.concurrency or self.sweep),
            "--replay: the trace says when requests leave; leave out load",
        )
        yield (
            self.sweep and len(self.scenarios) > 1,
            "--sweep: one --scenario at a time, or `mixed`",
        )
        yield self.soak and self.sweep, "--soak and --sweep: one load for long, or many; not both"
        yield (
            self.duration == 0 or self.timeout == 0,
            "--duration, --soak and --timeout: a time above 0, such as 30s",
        )
        yield (
            self.arrivals != "constant" and not self.rates,
            f"--arrivals {self.arrivals}: needs a --rate",
        )
        yield (
            self.speed != 1 and not self.replay,
            "--speed: needs --replay, which has times to be sped up",
        )
        yield (
            self.baseline_model is not None and self.baseline is None,
            "--baseline-model: needs a --baseline",
        )
        yield (
            self.shard[1] > 1 and (self.start_at is None or self.duration is None or self.sweep),
            "--shard: all machines start together and stop together; give --start-at and "
            "--duration, and no --sweep",
        )

    @property
    def kind(self) -> LoadKind:
        """The word for this load."""
        if self.sweep:
            return "sweep"
        if self.soak:
            return "soak"
        if self.replay:
            return "replay"
        return self.arrivals if self.rates else "closed"


@dataclass(frozen=True)
class LevelSpec:
    """One scenario under one load."""

    scenario: str
    load: LoadShape

    @property
    def name(self) -> str:
        """As people call it."""
        load = self.load
        if load.kind == "replay":
            return "replay" if load.speed == 1 else f"replay at {load.speed:g} times the speed"
        if load.kind == "closed":
            return f"concurrency {load.concurrency}"
        how = "" if load.arrivals == "constant" else f", {load.arrivals}"
        return f"{load.rate:g} requests/s{how}"


def closed(options: Options, concurrency: int) -> LoadShape:
    """So many at a time; the first wave is warm-up unless it was said otherwise."""
    warmup = concurrency if options.warmup is None else options.warmup
    return LoadShape(kind="closed", concurrency=concurrency, warmup=warmup, **_length(options))


def opened(options: Options, rate: float) -> LoadShape:
    """So many a second; the first second, ten at most, is warm-up."""
    warmup = min(10, round(rate)) if options.warmup is None else options.warmup
    return LoadShape(
        kind="open", arrivals=options.arrivals, rate=rate, warmup=warmup, **_length(options)
    )


def plan_levels(options: Options) -> list[LevelSpec]:
    """Every scenario under every load, in the order in which they are run; not for a sweep."""
    if options.replay:
        length = {"duration": options.duration, "requests": options.requests}
        loads = [LoadShape(kind="replay", speed=options.speed, warmup=0, **length)]
    elif options.rates:
        loads = [opened(options, rate) for rate in options.rates]
    else:
        loads = [closed(options, c) for c in options.concurrency or (DEFAULT_CONCURRENCY,)]
    return [LevelSpec(scenario, load) for scenario in options.scenarios for load in loads]


def _length(options: Options) -> dict[str, Any]:
    duration = options.duration
    if duration is None and options.requests is None:
        duration = 600.0 if options.soak else DEFAULT_DURATION
    return {"duration": duration, "requests": options.requests}


_NAME: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2
_VALUE: Final = r"[\t -~]*\Z"


def parse_scenarios(text: str, *, sweep: bool) -> tuple[str, ...]:
    """Those that were named; else the three built-in ones, and for a sweep their mixture."""
    named = tuple(part.strip() for part in text.split(",") if part.strip())
    return named or (("mixed",) if sweep else ("short", "medium", "long"))


def parse_optional_duration(text: str | None, flag: str) -> float | None:
    """Seconds; None where it was not given."""
    return None if text is None else seconds(text, flag)


def parse_headers(lines: list[str]) -> dict[str, str]:
    """By name in lower case."""
    found = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not re.fullmatch(_NAME, name.strip()) or not re.match(_VALUE, value):
            raise ConfigurationError(f"--header {line!r}: expected NAME: VALUE")
        found[name.strip().lower()] = value.strip()
    return found


def parse_body(text: str) -> dict[str, Any]:
    """The value of --body."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigurationError(f"--body: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigurationError("--body: expected an object such as {}")
    return value


def parse_numbers(text: str, flag: str, *, whole: bool = False) -> list[float]:
    """Numbers above 0, with commas between."""
    pattern = r"[1-9][0-9]*" if whole else r"[0-9]*\.?[0-9]+"
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(not re.fullmatch(pattern, part) or float(part) <= 0 for part in parts):
        raise ConfigurationError(f"{flag} {text}: expected numbers above 0, such as 1,8,32")
    return [float(part) for part in parts]


def parse_shard(text: str) -> tuple[int, int]:
    """I and N of I/N."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise ConfigurationError(f"--shard {text}: expected I/N with I from 0 to N - 1")
    return int(match[1]), int(match[2])


def parse_start(text: str | None) -> float | None:
    """Seconds since 1970, of a number or an ISO date; a date without a zone is UTC.

    Raises ConfigurationError for anything else.
    """
    if text is None:
        return None
    try:
        date = _date(text)
    except (ValueError, OverflowError, OSError):
        raise ConfigurationError(
            f"--start-at {text}: expected 2030-01-31T12:00:00Z or seconds since 1970"
        ) from None
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _date(text: str) -> datetime:
    try:
        seconds = float(text)
    except ValueError:
        return datetime.fromisoformat(text)
    return datetime.fromtimestamp(seconds, UTC)
