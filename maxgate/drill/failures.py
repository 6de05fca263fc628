"""The failures of a drill, and the policy that each is held against (docs/failures.md)."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maxgate.drill.client import Result, count_labels
from maxgate.drill.engine import Meter, ScriptedEngine
from maxgate.drill.scratch import Gateway, Scratch


@dataclass(frozen=True, slots=True)
class Stage:
    """A gateway with its engines, for one failure."""

    gateway: Gateway
    engines: Sequence[ScriptedEngine]
    scratch: Scratch
    meter: Meter

    @property
    def is_alone(self) -> bool:
        """Whether there is one engine only."""
        return len(self.engines) == 1

    @property
    def slots(self) -> int:
        """The slots of all engines together; without admission, what the drill takes for them."""
        return (self.scratch.settings.admission.slots or 4) * len(self.engines)


@dataclass(frozen=True, slots=True)
class Policy:
    """The outcomes that clients may see.

    `allowed` are the labels of results, at least `complete` of which have to be complete. No wait
    may exceed `max_wait` seconds. Responses with 429 and 503 need Retry-After, except those in
    `final`, for which a retry is no help.
    """

    text: str
    allowed: Collection[str]
    complete: int = 0
    max_wait: float = 10.0
    final: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcomes that clients have seen; `faults` are further breaches of the policy."""

    results: Sequence[Result]
    policy: Policy
    faults: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure to play; `settings` are merged over those of the scratch gateway.

    After one that `is_harmless`, gateway and engines are as before. Most need one worker only,
    which starts sooner than all of them. `find_obstacle` returns the reason why it cannot be played
    with this configuration, or "".
    """

    name: str
    text: str
    play: Callable[[Stage], Awaitable[Outcome]]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    find_obstacle: Callable[[Scratch], str] = lambda _: ""
    is_harmless: bool = False
    with_all_workers: bool = False


def find_breaches(outcome: Outcome) -> list[str]:
    """Return how the outcome breaks the policy, in words; empty if it does not."""
    results, policy = outcome.results, outcome.policy
    breaches = [
        f"{_count(count, 'response')}: {label}"
        for label, count in count_labels(results).items()
        if label not in policy.allowed
    ]
    complete = sum(result.ending == "complete" for result in results)
    if complete < policy.complete:
        breaches.append(f"{complete} of {policy.complete} responses are complete")
    without = sum(
        result.ending == "error"
        and result.status in {429, 503}
        and not result.retry_after
        and result.label not in policy.final
        for result in results
    )
    if without:
        verb = "has" if without == 1 else "have"
        breaches.append(f"{_count(without, 'response')} {verb} no Retry-After")
    longest = max((result.seconds for result in results), default=0.0)
    if longest > policy.max_wait:
        breaches.append(f"a client waited {longest:.1f} s, more than {policy.max_wait:g} s")
    return [*breaches, *outcome.faults]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
