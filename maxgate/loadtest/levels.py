"""The levels of a run: every scenario under every load, or the steps of a sweep."""

from dataclasses import dataclass
from typing import Any, Final

from maxgate.loadtest.messages import LoadShape
from maxgate.loadtest.options import Options

_DEFAULT_CONCURRENCY: Final = 8
_DEFAULT_DURATION: Final = 15.0
_DEFAULT_SOAK_DURATION: Final = 600.0
_MAX_SWEEP_STEPS: Final = 24
_MAX_SWEEP_CONCURRENCY: Final = 1024
_SWEEP_RATE_FACTOR: Final = 1.5


@dataclass(frozen=True)
class LevelSpec:
    """One scenario under one load."""

    scenario: str
    load: LoadShape

    @property
    def name(self) -> str:
        """The name of the load in reports, such as `concurrency 8`."""
        load = self.load
        if load.kind == "replay":
            return "replay" if load.speed == 1 else f"replay at {load.speed:g} times the speed"
        if load.kind == "closed":
            return f"concurrency {load.concurrency}"
        suffix = "" if load.arrivals == "constant" else f", {load.arrivals}"
        return f"{load.rate:g} requests/s{suffix}"


def plan_levels(options: Options) -> list[LevelSpec]:
    """All levels in order; for a sweep, the first step of each scenario."""
    if options.sweep:
        steps = [plan_sweep_step(options, scenario, 0) for scenario in options.scenarios]
        return [step for step in steps if step is not None]
    if options.replay:
        length = {"duration": options.duration, "requests": options.requests}
        loads = [LoadShape(kind="replay", speed=options.speed, warmup=0, **length)]
    elif options.rates:
        loads = [_open_loop(options, rate) for rate in options.rates]
    else:
        concurrency = options.concurrency or (_DEFAULT_CONCURRENCY,)
        loads = [_closed_loop(options, count) for count in concurrency]
    return [LevelSpec(scenario, load) for scenario in options.scenarios for load in loads]


def plan_sweep_step(options: Options, scenario: str, number: int) -> LevelSpec | None:
    """Step `number` of a sweep, counted from 0; None after the last possible one."""
    if number >= _MAX_SWEEP_STEPS:
        return None
    if options.rates:
        rate = options.rates[0] * _SWEEP_RATE_FACTOR**number
        return LevelSpec(scenario, _open_loop(options, rate))
    concurrency = (options.concurrency or (1,))[0] * 2**number
    if concurrency > _MAX_SWEEP_CONCURRENCY:
        return None
    return LevelSpec(scenario, _closed_loop(options, concurrency))


def _closed_loop(options: Options, concurrency: int) -> LoadShape:
    """A fixed concurrency; by default the first wave is warm-up."""
    warmup = concurrency if options.warmup is None else options.warmup
    return LoadShape(kind="closed", concurrency=concurrency, warmup=warmup, **_length(options))


def _open_loop(options: Options, rate: float) -> LoadShape:
    """A fixed rate; by default the first second is warm-up, but at most ten requests."""
    warmup = min(10, round(rate)) if options.warmup is None else options.warmup
    return LoadShape(
        kind="open", arrivals=options.arrivals, rate=rate, warmup=warmup, **_length(options)
    )


def _length(options: Options) -> dict[str, Any]:
    duration = options.duration
    if duration is None and options.requests is None:
        duration = _DEFAULT_SOAK_DURATION if options.soak else _DEFAULT_DURATION
    return {"duration": duration, "requests": options.requests}
