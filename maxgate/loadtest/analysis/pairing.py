"""`--baseline`: compare two servers by pairs of identical requests."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxgate.loadtest.analysis.comparison import paired_change
from maxgate.loadtest.analysis.metrics import PER_REQUEST, STREAMED, succeeded
from maxgate.results.changes import bonferroni_confidence, rate_change
from maxgate.results.records import Records
from maxgate.results.report import Change, Level

_METRICS = ("latency", "ttft", "tpot")
_STATISTICS = ("mean", "p50", "p95", "p99")


def compare_paired_levels(
    levels: Sequence[Level], records: Sequence[Records], *, stream: bool, seed: int
) -> list[Change]:
    """The changes of every level; the target's `levels` are in the order of `records`."""
    targets = [level for level in levels if level.side == "target"]
    return [
        change
        for level, level_records in zip(targets, records, strict=True)
        for change in compare_pairs(
            level_records, level=f"{level.scenario}, {level.name}", stream=stream, seed=seed
        )
    ]


def compare_pairs(records: Records, *, level: str, stream: bool, seed: int) -> list[Change]:
    """The changes from the baseline (`before`) to the target (`after`).

    Only pairs in which both requests succeeded count. The change of the median is the median of
    the differences of the pairs.
    """
    measured = records.select(records["warmup"] == 0)
    metrics = [m for m in _METRICS if stream or m not in STREAMED]
    confidence = bonferroni_confidence(len(metrics) * len(_STATISTICS) + 1)
    rng = np.random.default_rng([seed, 4])
    target, baseline = _match_pairs(measured)
    target_first = target["sent"] < baseline["sent"]
    found = []
    for metric in metrics:
        after, before = PER_REQUEST[metric](target), PER_REQUEST[metric](baseline)
        known = ~np.isnan(after) & ~np.isnan(before)
        found += [
            paired_change(
                before[known],
                after[known],
                after_first=target_first[known],
                metric=metric,
                statistic=statistic,
                level=level,
                confidence=confidence,
                rng=rng,
            )
            for statistic in _STATISTICS
        ]
    failures = [_count_failures(measured, side) for side in (1, 0)]
    return [*found, rate_change(*failures, level=level, confidence=confidence)]


def describe_order_effect(records: Records, *, stream: bool, seed: int) -> str | None:
    """A clause if the second request of a pair was faster or slower than the first."""
    target, baseline = _match_pairs(records.select(records["warmup"] == 0))
    metric = "ttft" if stream else "latency"
    after, before = PER_REQUEST[metric](target), PER_REQUEST[metric](baseline)
    target_first = target["sent"] < baseline["sent"]
    change = paired_change(
        np.where(target_first, after, before),
        np.where(target_first, before, after),
        after_first=target_first,
        metric=metric,
        statistic="p50",
        level="",
        confidence=0.99,
        rng=np.random.default_rng([seed, 6]),
    )
    if change.difference is None or change.verdict not in {"better", "worse"}:
        return None
    size, word = abs(change.difference) * 1000, "faster" if change.difference < 0 else "slower"
    return f"the second request of a pair was {size:.3g} ms {word} than the first"


def _match_pairs(records: Records) -> tuple[Records, Records]:
    """The target's and the baseline's rows of the requests that succeeded on both, aligned."""
    ok = records.select(succeeded(records))
    key = ok["index"].astype(np.int64) * 1000 + ok["turn"]
    both = np.intersect1d(key[ok["side"] == 0], key[ok["side"] == 1])
    return _select_side(ok, key, both, 0), _select_side(ok, key, both, 1)


def _select_side(
    records: Records, key: NDArray[np.int64], both: NDArray[np.int64], side: int
) -> Records:
    mask = (records["side"] == side) & np.isin(key, both)
    picked = records.select(mask)
    order = np.argsort(key[mask])
    # Stamps keep their order, because no comparison of pairs reads them.
    columns = {name: column[order] for name, column in picked.columns.items()}
    return Records(columns, picked.stamps, picked.arrival_uncertainty, picked.errors)


def _count_failures(records: Records, side: int) -> tuple[int, int]:
    here = records.select(records["side"] == side)
    return int((~succeeded(here)).sum()), len(here)
