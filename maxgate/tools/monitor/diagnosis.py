"""Why it is slow: a cause by name, and the numbers that say so."""

from dataclasses import dataclass
from typing import Final

from maxgate.tools.monitor.causes import CAUSES, SLOWER
from maxgate.tools.monitor.evidence import Cause, Evidence, Facts
from maxgate.tools.monitor.history import History

_SYMPTOMS: Final = ("gateway.ttft_p95", "gateway.latency_p95", "gateway.tpot_p95")


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`slower` are the numbers that are half as high again as usual; causes, deepest first.

    Causes without anything slower are pressure that is not felt yet.
    """

    slower: tuple[Evidence, ...]
    causes: tuple[Cause, ...]


def diagnose(history: History) -> Diagnosis:
    """What the history says now."""
    facts = Facts(history)
    slower = [
        evidence
        for name in _SYMPTOMS
        if facts.growth(name) >= SLOWER
        for evidence in facts.quote(name, usual=True)
    ]
    causes = (cause(facts) for cause in CAUSES)
    return Diagnosis(tuple(slower), tuple(cause for cause in causes if cause is not None))
