"""About the server: which knob, and why."""

from collections.abc import Iterator
from typing import Final

from maxgate.tools.report.advice.advice import (
    Advice,
    lightest_and_heaviest,
    percentile,
    targets,
)
from maxgate.tools.report.units import show
from maxgate.tools.results.report import Report

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
