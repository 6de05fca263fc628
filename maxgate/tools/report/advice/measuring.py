"""About the measurement: what the numbers do not say."""

from collections.abc import Iterator

from maxgate.tools.report.advice.advice import Advice, percentile, targets
from maxgate.tools.report.units import show
from maxgate.tools.results.report import Report


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
