"""Where more load gives no more."""

from collections.abc import Sequence
from typing import Final

from maxgate.loadtest.messages import LoadShape
from maxgate.loadtest.options import LevelSpec, Options, closed, opened, plan_levels
from maxgate.results.report import Level, Saturation

_GAIN: Final = 1.05  # a step that doubles the load has to bring at least this much
_KEEPS_UP: Final = 0.95  # of the planned rate
_ERRORS: Final = 0.01
_MAX_CONCURRENCY: Final = 1024
_RATE_STEP: Final = 1.5
_MAX_STEPS: Final = 24


def saturation(levels: Sequence[Level]) -> Saturation:
    """What the steps so far say; `found` ends the sweep."""
    if not levels:
        return Saturation(found=False, level=None, reason="nothing was run yet")
    last, before = levels[-1], levels[-2] if len(levels) > 1 else None
    kept = before.name if before is not None else None
    attempted = max(1, last.requests.attempted)
    if last.requests.failed / attempted > _ERRORS:
        share = last.requests.failed / attempted
        return Saturation(found=True, level=kept, reason=f"{share:.1%} failed at {last.name}")
    if last.client.limited:
        reason = f"the client was the limit at {last.name}: {last.client.reason}"
        return Saturation(found=True, level=None, reason=reason)
    if last.rate is not None and last.throughput.requests < _KEEPS_UP * last.rate:
        reason = f"{last.throughput.requests:.1f} of {last.rate:.1f} requests/s were answered"
        return Saturation(found=True, level=kept, reason=reason)
    if last.rate is None and before is not None:
        gain = last.throughput.requests / max(before.throughput.requests, 1e-9)
        if gain < _GAIN:
            reason = f"{last.name} brought {gain - 1:+.1%} requests/s over {before.name}"
            return Saturation(found=True, level=before.name, reason=reason)
    return Saturation(found=False, level=last.name, reason="every step still brought more")


def first_levels(options: Options) -> list[LevelSpec]:
    """The levels that are known before anything is run; of a sweep, each scenario's first step."""
    if not options.sweep:
        return plan_levels(options)
    steps = [next_step(options, scenario, 0) for scenario in options.scenarios]
    return [step for step in steps if step is not None]


def next_step(options: Options, scenario: str, done: int) -> LevelSpec | None:
    """The step after so many; None when there is none."""
    if done >= _MAX_STEPS:
        return None
    load: LoadShape
    if options.rates:
        load = opened(options, options.rates[0] * _RATE_STEP**done)
    else:
        concurrency = (options.concurrency or (1,))[0] * 2**done
        if concurrency > _MAX_CONCURRENCY:
            return None
        load = closed(options, concurrency)
    return LevelSpec(scenario, load)
