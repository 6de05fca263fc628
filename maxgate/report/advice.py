"""Advice: what to change, derived from the results, with the evidence for it.

Each rule reads one report and stays silent if the numbers it needs are missing. Rules about the
validity of the measurement come first, because invalid results are no reason to tune a server.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from maxgate.report.formatting import format_value
from maxgate.report.runs import Run
from maxgate.results.report import Level, Report

NO_ADVICE: Final = "These results suggest no change."


@dataclass(frozen=True, slots=True)
class Advice:
    """A suggested change and the evidence for it."""

    text: str
    evidence: str


def advise(run: Run) -> list[Advice]:
    """Apply all rules to the run, in order of importance."""
    return [advice for rule in RULES for advice in rule(run.report)]


def _target_levels(report: Report) -> list[Level]:
    return [level for level in report.levels if level.side == "target"]


def _percentile(level: Level, metric: str, percent: str) -> float | None:
    found = level.metrics.get(metric)
    return found.percentiles.get(percent) if found else None


def _lightest_and_heaviest(report: Report) -> tuple[Level, Level] | None:
    """Levels of the first scenario with the fewest and most requests in flight, if they differ."""
    levels = [level for level in _target_levels(report) if level.requests.succeeded]
    same_scenario = [level for level in levels if level.scenario == levels[0].scenario]
    ordered = sorted(same_scenario, key=lambda level: level.in_flight.mean)
    return (ordered[0], ordered[-1]) if len(ordered) >= 2 else None


# Validity of the measurement


def advise_on_limited_client(report: Report) -> Iterator[Advice]:
    """Results that show the client's limit instead of the server's."""
    limited = [level for level in report.levels if level.client.limited]
    if limited:
        yield Advice(
            "repeat the measurement with more --processes or from another machine: the client, not "
            "the server, limited these results",
            "; ".join(f"{one.name}: {one.client.reason or 'limited'}" for one in limited),
        )


def advise_on_few_requests(report: Report) -> Iterator[Advice]:
    """Too few requests for tail percentiles."""
    few = [
        level
        for level in _target_levels(report)
        if (level.requests.succeeded or not level.requests.attempted)
        and _percentile(level, "latency", "99") is None
    ]
    if few:
        yield Advice(
            "run longer: P99 needs 100 successful requests, and its interval needs 368",
            "; ".join(
                f"{one.scenario} {one.name}: {one.requests.succeeded} requests" for one in few
            ),
        )


def advise_on_warm_cache(report: Report) -> Iterator[Advice]:
    """Results that a warm prefix cache makes look faster."""
    for level in _target_levels(report):
        tokens = level.tokens
        if report.workload.cold or not tokens.cached or not tokens.input:
            continue
        if (share := tokens.cached / tokens.input) >= 0.3:
            yield Advice(
                "use a cold cache (--cold) to measure first-time prompts: the engine had cached "
                "many of these prompt tokens",
                f"{level.name}: {share:.0%} of prompt tokens came from the prefix cache",
            )
            return


# Errors

_ERROR_REMEDIES: Final = {
    "http_429": "the server limits the rate; raise the limit of this API key or send less",
    "http_503": "no engine had capacity; add a replica (another --engine-url) or raise MAX's "
    "--max-batch-size",
    "http_502": "the engine failed; see its log (maxgate: logs/engine-PORT.log)",
    "http_504": "the engine timed out; check its queue with monitor.py or raise "
    "upstream.first_token_timeout",
    "http_401": "pass an API key with --api-key",
    "timeout": "responses take longer than the client timeout; lower the concurrency or raise "
    "--timeout",
    "connect": "connections were refused; add --workers and check `ulimit -n` on both machines",
    "disconnected": "the server closed the connection; see its log, and check the timeouts of any "
    "proxy in between",
    "stream_error": "the engine aborted responses; see its log, and preemptions in monitor.py",
}


def advise_on_errors(report: Report) -> Iterator[Advice]:
    """Remedies for failures, most frequent kind first."""
    kinds: dict[str, int] = {}
    for level in _target_levels(report):
        for kind, count in level.requests.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    attempted = sum(level.requests.attempted for level in _target_levels(report))
    for kind, count in sorted(kinds.items(), key=lambda item: -item[1]):
        text = _ERROR_REMEDIES.get(kind, "see the server's log for the time of the run")
        yield Advice(
            f"{kind}: {text}", f"{count:,} of {attempted:,} requests, {count / attempted:.2%}"
        )


# Capacity and latency


def advise_on_saturation(report: Report) -> Iterator[Advice]:
    """The load beyond which throughput no longer grows."""
    if (found := report.saturation) is not None and found.found and found.level:
        yield _limit_load(found.level, found.reason)
        return
    pair = _lightest_and_heaviest(report)
    if pair is None:
        return
    light, heavy = pair
    levels = [level for level in _target_levels(report) if level.scenario == light.scenario]
    peak = max(level.throughput.requests for level in levels)
    knee = min(
        (level for level in levels if level.throughput.requests >= 0.95 * peak),
        key=lambda level: level.in_flight.mean,
    )
    if heavy.in_flight.mean >= 1.5 * knee.in_flight.mean:
        yield _limit_load(
            knee.name,
            f"{format_value(knee.throughput.requests, '/s')} at {knee.name}, "
            f"{format_value(heavy.throughput.requests, '/s')} at {heavy.name}",
        )


def _limit_load(level: str, evidence: str) -> Advice:
    return Advice(
        f"limit the load to {level}: more load adds waiting time but no throughput; add a replica "
        "to serve more",
        evidence,
    )


def advise_on_queueing(report: Report) -> Iterator[Advice]:
    """Growing latency, caused by queueing or by slower tokens in larger batches."""
    pair = _lightest_and_heaviest(report)
    if pair is None:
        return
    light, heavy = pair
    first = _percentile(light, "ttft", "50"), _percentile(heavy, "ttft", "50")
    token = _percentile(light, "tpot", "50"), _percentile(heavy, "tpot", "50")
    if None in first or None in token:
        return
    ttft = (first[1] or 0.0) / (first[0] or 1.0)
    tpot = (token[1] or 0.0) / (token[0] or 1.0)
    evidence = (
        f"from {light.name} to {heavy.name}: time to first token {format_value(first[0], 's')} to "
        f"{format_value(first[1], 's')} (x{ttft:.1f}), time per token "
        f"{format_value(token[0], 's')} to {format_value(token[1], 's')} (x{tpot:.1f})"
    )
    if ttft >= 3 and ttft >= 2 * tpot:
        yield Advice(
            "requests are queueing, because time to first token grows faster than time per token: "
            "raise MAX's --max-batch-size if monitor.py shows a queue and free memory, otherwise "
            "add a replica",
            evidence,
        )
    elif tpot >= 2:
        yield Advice(
            "the device is the limit, because time per token grows with the batch size: use a "
            "faster device, a smaller encoding or a replica; a smaller --max-batch-size trades "
            "throughput for time per token",
            evidence,
        )


def advise_on_unsustained_rate(report: Report) -> Iterator[Advice]:
    """A request rate above the server's capacity."""
    for level in _target_levels(report):
        sent = _percentile(level, "latency", "95")
        scheduled = _percentile(level, "response_latency", "95")
        if level.rate is not None and sent and scheduled and scheduled > 1.5 * sent:
            yield Advice(
                "the server cannot sustain this rate: use latency from schedule, which includes "
                "the wait that users experience before a request is sent",
                f"{level.name}: P95 {format_value(sent, 's')} from sending, "
                f"{format_value(scheduled, 's')} from schedule",
            )


def advise_on_slow_tail(report: Report) -> Iterator[Advice]:
    """A few responses that are much slower than the median."""
    for level in _target_levels(report):
        p50, p99 = _percentile(level, "latency", "50"), _percentile(level, "latency", "99")
        if p50 and p99 and p99 > 5 * p50:
            stalls = level.chunks.stalls if level.chunks else 0
            yield Advice(
                "a few responses are much slower than the rest: check in the timeline whether they "
                "occur together (compilation, preemption, another job) or throughout the run (long "
                "prompts)",
                f"{level.name}: P99 {format_value(p99, 's')}, P50 {format_value(p50, 's')}, "
                f"{stalls} stalls",
            )


def advise_on_multi_token_chunks(report: Report) -> Iterator[Advice]:
    """Chunk gaps that are not token gaps."""
    for level in _target_levels(report):
        per_chunk = level.chunks.tokens_per_chunk if level.chunks else None
        if per_chunk is not None and per_chunk >= 2:
            yield Advice(
                "chunks hold several tokens: use time per output token instead of chunk gap; if "
                "monitor.py shows responses buffered in MAX, its API process is the bottleneck",
                f"{level.name}: {per_chunk:.1f} tokens per chunk",
            )
            return


def advise_on_gateway_overhead(report: Report) -> Iterator[Advice]:
    """Latency that the gateway adds over the baseline."""
    worse = [change for change in report.paired if change.verdict == "worse"]
    slower_levels = {change.level for change in worse if change.metric == "latency"}
    for change in worse:
        # With equal latency, an earlier first token alone raises the time per output token.
        if change.metric == "tpot" and change.level not in slower_levels:
            continue
        if change.difference and change.before:
            share = change.difference / change.before
            if share >= 0.05:
                yield Advice(
                    "the gateway adds noticeable overhead: give it more --workers or a dedicated "
                    "core",
                    f"{change.level}, {change.metric} {change.statistic}: "
                    f"{format_value(change.before, change.unit)} without the gateway, "
                    f"{format_value(change.after, change.unit)} with it ({share:+.0%})",
                )
                return


def advise_on_drift(report: Report) -> Iterator[Advice]:
    """Latency that grows or throughput that falls during a soak test."""
    for one in report.drift:
        is_rate = one.metric == "throughput"
        if one.verdict == ("falling" if is_rate else "growing"):
            yield Advice(
                f"{one.metric} is {one.verdict} throughout the run: look for a leak, first in "
                "memory and KV cache (monitor.py --record)",
                f"{one.level}: {format_value(one.per_hour, '/s' if is_rate else 's')} per hour",
            )


RULES: Final[tuple[Callable[[Report], Iterator[Advice]], ...]] = (
    advise_on_limited_client,
    advise_on_few_requests,
    advise_on_warm_cache,
    advise_on_errors,
    advise_on_saturation,
    advise_on_queueing,
    advise_on_unsustained_rate,
    advise_on_slow_tail,
    advise_on_multi_token_chunks,
    advise_on_gateway_overhead,
    advise_on_drift,
)
