"""Planning of levels."""

from maxgate.loadtest.levels import plan_levels, plan_sweep_step
from maxgate.loadtest.options import Options


def plan(options: Options) -> list[tuple[str, str, float | None, int]]:
    """Scenario, name, duration and warm-up of every level."""
    return [
        (spec.scenario, spec.name, spec.load.duration, spec.load.warmup)
        for spec in plan_levels(options)
    ]


def test_default() -> None:
    """By default, each scenario runs at concurrency 8 for 15 s after one wave of warm-up."""
    assert plan(Options(scenarios=("short", "long"))) == [
        ("short", "concurrency 8", 15.0, 8),
        ("long", "concurrency 8", 15.0, 8),
    ]


def test_rates() -> None:
    """With rates, the first second is warm-up, but at most ten requests."""
    options = Options(scenarios=("short",), rates=(0.5, 40.0), arrivals="poisson", duration=3.0)
    assert plan(options) == [
        ("short", "0.5 requests/s, poisson", 3.0, 0),
        ("short", "40 requests/s, poisson", 3.0, 10),
    ]


def test_replay() -> None:
    """A replay has one level without warm-up or default duration."""
    options = Options(scenarios=("w.jsonl",), replay=True, speed=2.0)
    assert plan(options) == [("w.jsonl", "replay at 2 times the speed", None, 0)]


def test_sweep() -> None:
    """A sweep doubles the concurrency up to 1,024."""
    options = Options(scenarios=("mixed",), sweep=True)
    steps = [plan_sweep_step(options, "mixed", number) for number in range(12)]
    assert [step and step.load.concurrency for step in steps] == [*(2**k for k in range(11)), None]
    assert plan_levels(options) == steps[:1]


def test_sweep_of_rates() -> None:
    """A sweep of rates raises the rate by half."""
    options = Options(scenarios=("mixed",), sweep=True, rates=(8.0,))
    steps = [plan_sweep_step(options, "mixed", number) for number in (0, 1, 2, 24)]
    assert [step and step.load.rate for step in steps] == [8.0, 12.0, 18.0, None]
