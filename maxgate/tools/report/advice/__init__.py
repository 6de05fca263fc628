"""What to do about it: which knob, why, and the numbers that say so.

Each rule looks at one run and speaks only where its numbers are there. Rules about the measurement
come first: a number that is not to be believed is no reason to turn a knob.
"""

from collections.abc import Sequence
from typing import Final

from maxgate.tools.report.advice import load, measuring
from maxgate.tools.report.advice.advice import Advice, Rule
from maxgate.tools.report.runs import Run

RULES: Final[Sequence[Rule]] = (
    measuring.client_was_the_limit,
    measuring.too_few,
    measuring.warm_cache,
    load.errors,
    load.knee,
    load.queueing,
    measuring.late_schedule,
    load.tail,
    measuring.bundled_tokens,
    load.gateway_cost,
    load.drift,
)


def advise(run: Run) -> list[Advice]:
    """What the run's numbers ask for, the most important first."""
    return [advice for rule in RULES for advice in rule(run.report)]
