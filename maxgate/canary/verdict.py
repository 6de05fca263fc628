"""The result of a canary: what the samples of all workers say about the new engine.

Intervals have 95 % confidence. Those of medians come from order statistics, those of shares are
Wilson's (1927); neither assumes a distribution of the times.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Final, Literal

from maxgate.api.admin.canary import (
    Agreement,
    Check,
    Estimate,
    NewCanary,
    TimeComparison,
    Verdict,
)
from maxgate.canary.samples import Sample

_Z: Final = 1.96
_MIN_SIZE: Final = 6  # of a sample whose median has an interval with 95 % confidence
_METRICS: Final[Sequence[Literal["ttft", "tpot", "time_per_token"]]] = (
    "ttft",
    "tpot",
    "time_per_token",
)
_NAMES: Final = {
    "ttft": "first-token time",
    "tpot": "time per token",
    "time_per_token": "time per token of plain responses",
}


def estimate_median(values: Sequence[float]) -> Estimate:
    """Return the median; its interval is between two of the values, None below 6 values."""
    if not values:
        return Estimate(value=None, low=None, high=None)
    ordered, size = sorted(values), len(values)
    if size < _MIN_SIZE:
        return Estimate(value=median(ordered), low=None, high=None)
    rank = max(1, math.floor((size - _Z * math.sqrt(size)) / 2))
    return Estimate(value=median(ordered), low=ordered[rank - 1], high=ordered[-rank])


def estimate_share(count: int, total: int) -> Estimate:
    """Return a share in percent with Wilson's interval."""
    if not total:
        return Estimate(value=None, low=None, high=None)
    share, weight = count / total, _Z**2 / total
    center = (share + weight / 2) / (1 + weight)
    margin = _Z / (1 + weight) * math.sqrt(share * (1 - share) / total + weight / total / 4)
    low, high = max(center - margin, 0.0), min(center + margin, 1.0)
    return Estimate(value=100 * share, low=100 * low, high=100 * high)


def measure_agreement(samples: Sequence[Sample], near_tie: float) -> Agreement:
    """Compare the tokens of the responses that both engines have given."""
    prefixes = [sample.prefix for sample in samples if sample.prefix is not None]
    apart = [sample for sample in samples if sample.divergence is not None]
    gaps = [sample.gap for sample in apart if sample.gap is not None]
    positions = [float(sample.divergence or 0) for sample in apart]
    near_ties = sum(gap <= near_tie for gap in gaps)
    equal = len(prefixes) - len(apart)
    return Agreement(
        responses=len(prefixes),
        equal=equal,
        near_ties=near_ties,
        different=len(apart) - near_ties,
        unexplained=len(apart) - len(gaps),
        share=estimate_share(equal + near_ties, len(prefixes)),
        mean_prefix=100 * sum(prefixes) / len(prefixes) if prefixes else None,
        median_divergence=median(positions) if positions else None,
        median_gap=median(gaps) if gaps else None,
    )


def compare_times(samples: Sequence[Sample], *, paired: bool) -> list[TimeComparison]:
    """Compare the times of both engines; `paired` if each sample has those of both."""
    found = []
    for metric in _METRICS:
        pairs = [(_read(sample, "old", metric), _read(sample, "new", metric)) for sample in samples]
        if paired:
            pairs = [pair for pair in pairs if None not in pair]
        old = [left for left, _ in pairs if left is not None]
        new = [right for _, right in pairs if right is not None]
        if not old or not new:
            continue
        left, right = estimate_median(old), estimate_median(new)
        ratios = [b / a for a, b in zip(old, new, strict=True) if a > 0] if paired else []
        ratio = estimate_median(ratios) if paired else _divide(right, left)
        found.append(
            TimeComparison(
                metric=metric,
                samples=min(len(old), len(new)),
                old=left,
                new=right,
                slowdown=Estimate(**{k: None if v is None else 100 * (v - 1) for k, v in ratio}),
            )
        )
    return found


def _read(sample: Sample, engine: str, metric: str) -> float | None:
    times = getattr(sample, engine)
    value: float | None = times and getattr(times, metric)
    return value


def _divide(over: Estimate, under: Estimate) -> Estimate:
    """Return the ratio of two independent medians; its interval is a wide one."""

    def ratio(left: float | None, right: float | None) -> float | None:
        return left / right if left is not None and right else None

    return Estimate(
        value=ratio(over.value, under.value),
        low=ratio(over.low, under.high),
        high=ratio(over.high, under.low),
    )


def judge(
    canary: NewCanary,
    agreement: Agreement | None,
    times: Sequence[TimeComparison],
    errors: Estimate,
    *,
    halted: bool = False,
) -> tuple[list[Check], Verdict]:
    """Return the parts of the verdict, and the verdict; `errors` is the share of failures.

    `halted`: the new engine failed so many requests in a row that it gets no more.
    """
    checks = [] if agreement is None else [_judge_agreement(canary, agreement)]
    checks += [_judge_times(canary, times), _judge_errors(canary, errors, halted=halted)]
    verdicts = {check.verdict for check in checks}
    if "fail" in verdicts:
        return checks, "fail"
    return checks, "inconclusive" if "inconclusive" in verdicts else "pass"


def _judge_errors(canary: NewCanary, errors: Estimate, *, halted: bool) -> Check:
    if errors.value is None:
        return Check(name="errors", verdict="inconclusive", reason="no requests at the new engine")
    if halted:
        reason = "the new engine failed too many requests in a row"
        return Check(name="errors", verdict="fail", reason=reason)
    failed = errors.value > canary.max_errors
    limit = f"{canary.max_errors:g} %"
    reason = f"{errors.value:.3g} % of the requests failed, at most {limit} allowed"
    return Check(name="errors", verdict="fail" if failed else "pass", reason=reason)


def _judge_agreement(canary: NewCanary, agreement: Agreement) -> Check:
    share, limit = agreement.share, canary.min_agreement
    if share.value is None or share.low is None or share.high is None:
        return Check(name="agreement", verdict="inconclusive", reason="no responses to compare")
    passes, fails = share.low >= limit, share.high < limit
    verdict: Verdict = "pass" if passes else "fail" if fails else "inconclusive"
    found = f"{share.value:.1f} % of the responses agree ({share.low:.1f} to {share.high:.1f})"
    return Check(name="agreement", verdict=verdict, reason=f"{found}, at least {limit:g} % needed")


def _judge_times(canary: NewCanary, times: Sequence[TimeComparison]) -> Check:
    limit = canary.max_slowdown
    verdicts: dict[str, Verdict] = {}
    reasons = []
    for one in times:
        slowdown = one.slowdown
        if slowdown.value is None or slowdown.low is None or slowdown.high is None:
            continue
        passes, fails = slowdown.high <= limit, slowdown.low > limit
        verdicts[one.metric] = "pass" if passes else "fail" if fails else "inconclusive"
        interval = f"{slowdown.low:+.1f} to {slowdown.high:+.1f}"
        reasons.append(f"{_NAMES[one.metric]} {slowdown.value:+.1f} % ({interval})")
    if not verdicts:
        reason = f"fewer than {_MIN_SIZE} responses with times"
        return Check(name="slowdown", verdict="inconclusive", reason=reason)
    found = set(verdicts.values())
    worst: Verdict = "fail" if "fail" in found else "pass" if found == {"pass"} else "inconclusive"
    reason = f"{', '.join(reasons)}, at most {limit:+g} % allowed"
    return Check(name="slowdown", verdict=worst, reason=reason)
