"""What to do about it: which knob, why, and the numbers that say so.

Each rule looks at one run and speaks only where its numbers are there. Rules about the measurement
come first: a number that is not to be believed is no reason to turn a knob.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from maxgate.report.runs import Run
from maxgate.report.units import show
from maxgate.results.report import Level, Report


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do, and the evidence."""

    text: str
    evidence: str


Rule = Callable[[Report], Iterator[Advice]]


def percentile(level: Level, metric: str, percent: str) -> float | None:
    """None where it is not known."""
    found = level.metrics.get(metric)
    return found.percentiles.get(percent) if found else None


def targets(report: Report) -> list[Level]:
    """The levels, without those of a baseline."""
    return [level for level in report.levels if level.side == "target"]


def lightest_and_heaviest(report: Report) -> tuple[Level, Level] | None:
    """Of the first scenario, by requests in flight; None with fewer than two levels."""
    levels = [level for level in targets(report) if level.requests.succeeded]
    by_scenario = [one for one in levels if levels and one.scenario == levels[0].scenario]
    ordered = sorted(by_scenario, key=lambda level: level.in_flight.mean)
    return (ordered[0], ordered[-1]) if len(ordered) >= 2 else None


_ERROR_KNOBS: Final = {
    "http_429": "the server limits the rate: raise the limit of this key, or send less",
    "http_503": "no engine had room: add a replica (another --engine-url), or raise MAX's "
    "--max-batch-size",
    "http_502": "the engine failed: its log (maxgate: logs/engine-PORT.log) says why",
    "http_504": "the engine was silent for too long: see its queue with monitor.py, or raise "
    "upstream.first_token_timeout",
    "http_401": "give a key with --api-key",
    "timeout": "answers take longer than the client waits: fewer at a time, or a higher --timeout",
    "connect": "connections were refused: more --workers, and see `ulimit -n` on both sides",
    "disconnected": "the server hung up: its log says why; a proxy between may have a time limit",
    "stream_error": "the engine broke off answers: see its log, and preemptions in monitor.py",
}


def errors(report: Report) -> Iterator[Advice]:
    """Failures, the most frequent kind first."""
    kinds: dict[str, int] = {}
    for level in targets(report):
        for kind, count in level.requests.errors.items():
            kinds[kind] = kinds.get(kind, 0) + count
    attempted = sum(level.requests.attempted for level in targets(report))
    for kind, count in sorted(kinds.items(), key=lambda item: -item[1]):
        text = _ERROR_KNOBS.get(kind, "the server's log at that time says more")
        yield Advice(
            f"{kind}: {text}", f"{count:,} of {attempted:,} requests, {count / attempted:.2%}"
        )


def knee(report: Report) -> Iterator[Advice]:
    """Where more load gives no more throughput."""
    if (found := report.saturation) is not None and found.found and found.level:
        yield Advice(
            f"keep the load at {found.level}: more gives longer waits and no more throughput; "
            "beyond it, add a replica",
            found.reason,
        )
        return
    pair = lightest_and_heaviest(report)
    if pair is None:
        return
    light, heavy = pair
    levels = [one for one in targets(report) if one.scenario == light.scenario]
    most = max(level.throughput.requests for level in levels)
    # The lightest level that gives nearly all there is to have.
    knee = min(
        (one for one in levels if one.throughput.requests >= 0.95 * most),
        key=lambda level: level.in_flight.mean,
    )
    if heavy.in_flight.mean >= 1.5 * knee.in_flight.mean:
        yield Advice(
            f"keep the load at {knee.name}: more only waits; beyond it, add a replica",
            f"{show(knee.throughput.requests, '/s')} at {knee.name}, "
            f"{show(heavy.throughput.requests, '/s')} at {heavy.name}",
        )


def queueing(report: Report) -> Iterator[Advice]:
    """Standing in line against slow tokens."""
    pair = lightest_and_heaviest(report)
    if pair is None:
        return
    light, heavy = pair
    first = percentile(light, "ttft", "50"), percentile(heavy, "ttft", "50")
    token = percentile(light, "tpot", "50"), percentile(heavy, "tpot", "50")
    if None in first or None in token:
        return
    ttft = (first[1] or 0.0) / (first[0] or 1.0)
    tpot = (token[1] or 0.0) / (token[0] or 1.0)
    evidence = (
        f"from {light.name} to {heavy.name}: first token {show(first[0], 's')} to "
        f"{show(first[1], 's')} (x{ttft:.1f}), per token {show(token[0], 's')} to "
        f"{show(token[1], 's')} (x{tpot:.1f})"
    )
    if ttft >= 3 and ttft >= 2 * tpot:
        yield Advice(
            "the wait for the first token grows faster than the time per token: requests stand in "
            "line. Raise MAX's --max-batch-size if monitor.py shows a queue and free memory, else "
            "add a replica",
            evidence,
        )
    elif tpot >= 2:
        yield Advice(
            "every token is slower in a fuller batch, so the device itself is the limit: a faster "
            "one, a smaller encoding, or a replica; a smaller --max-batch-size trades throughput "
            "for time per token",
            evidence,
        )


def tail(report: Report) -> Iterator[Advice]:
    """Few answers that are far slower."""
    for level in targets(report):
        middle, tail = percentile(level, "latency", "50"), percentile(level, "latency", "99")
        if middle and tail and tail > 5 * middle:
            stalls = level.chunks.stalls if level.chunks else 0
            yield Advice(
                "a few answers are far slower than the rest: see in the time line whether they "
                "come together (a compile, a preemption, another job) or all along (long prompts)",
                f"{level.name}: P99 {show(tail, 's')} against P50 {show(middle, 's')}, "
                f"{stalls} stalls",
            )


def gateway_cost(report: Report) -> Iterator[Advice]:
    """What the gateway itself costs."""
    worse = [change for change in report.paired if change.verdict == "worse"]
    later = {change.level for change in worse if change.metric == "latency"}
    for change in worse:
        # An earlier first token leaves more time between the others, at the same end.
        if change.metric == "tpot" and change.level not in later:
            continue
        if change.difference and change.before:
            share = change.difference / change.before
            if share >= 0.05:
                yield Advice(
                    "the gateway is felt: give it more --workers, or a core of its own",
                    f"{change.level}, {change.metric} {change.statistic}: "
                    f"{show(change.before, change.unit)} without, "
                    f"{show(change.after, change.unit)} with it ({share:+.0%})",
                )
                return


def drift(report: Report) -> Iterator[Advice]:
    """What grows in a soak."""
    for drift in report.drift:
        if drift.verdict == "growing":
            yield Advice(
                f"{drift.metric} grows all through the run: look for what is never freed, memory "
                "and KV cache first (monitor.py --record)",
                f"{drift.level}: {show(drift.per_hour, 's')} per hour",
            )


def client_was_the_limit(report: Report) -> Iterator[Advice]:
    """Numbers of a client at its limit."""
    limited = [level for level in report.levels if level.client.limited]
    if limited:
        yield Advice(
            "measure again with more --processes, or from another machine: these numbers are the "
            "client's, not the server's",
            "; ".join(f"{one.name}: {one.client.reason or 'limited'}" for one in limited),
        )


def too_few(report: Report) -> Iterator[Advice]:
    """Too few answers for a tail."""
    few = [
        level
        for level in targets(report)
        if level.requests.succeeded and percentile(level, "latency", "99") is None
    ]
    if few:
        yield Advice(
            "run longer: a P99 needs 100 answers, and an interval around it 200",
            "; ".join(
                f"{one.scenario} {one.name}: {one.requests.succeeded} answers" for one in few
            ),
        )


def warm_cache(report: Report) -> Iterator[Advice]:
    """Prompts that the engine knew."""
    for level in targets(report):
        tokens = level.tokens
        if report.workload.cold or not tokens.cached or not tokens.input:
            continue
        if (share := tokens.cached / tokens.input) >= 0.3:
            yield Advice(
                "for what a first-time prompt costs, measure with a cold cache (--cold): here the "
                "engine knew much of the prompts already",
                f"{level.name}: {share:.0%} of the prompt tokens came from the prefix cache",
            )
            return


def late_schedule(report: Report) -> Iterator[Advice]:
    """A rate that was not kept."""
    for level in targets(report):
        served, felt = (
            percentile(level, "latency", "95"),
            percentile(level, "response_latency", "95"),
        )
        if level.rate is not None and served and felt and felt > 1.5 * served:
            yield Advice(
                "the server cannot take this rate: look at latency from schedule, which is what "
                "users would feel; latency from departure hides the wait",
                f"{level.name}: P95 {show(served, 's')} from departure, {show(felt, 's')} from "
                "schedule",
            )


def bundled_tokens(report: Report) -> Iterator[Advice]:
    """Chunk gaps that are not token gaps."""
    for level in targets(report):
        per_chunk = level.chunks.tokens_per_chunk if level.chunks else None
        if per_chunk is not None and per_chunk >= 2:
            yield Advice(
                "several tokens come in one chunk: read time per output token, not the chunk gap; "
                "where monitor.py shows answers buffered in MAX, its API process is behind",
                f"{level.name}: {per_chunk:.1f} tokens per chunk",
            )
            return


RULES: Final[Sequence[Rule]] = (
    client_was_the_limit,
    too_few,
    warm_cache,
    errors,
    knee,
    queueing,
    late_schedule,
    tail,
    bundled_tokens,
    gateway_cost,
    drift,
)


def advise(run: Run) -> list[Advice]:
    """What the run's numbers ask for, the most important first."""
    return [advice for rule in RULES for advice in rule(run.report)]
