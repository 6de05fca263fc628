"""The numbers of one level."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from maxgate.tools.loadtest.console.numbers import milliseconds
from maxgate.tools.results.distribution import Distribution
from maxgate.tools.results.level import Level

SHOWN = (
    "latency",
    "response_latency",
    "ttft",
    "response_ttft",
    "tpot",
    "chunk_gap",
    "normalized_latency",
    "ttfb",
    "late",
    "connect",
)
_KEYS = ("50", "90", "95", "99", "99.9")


def heading(level: Level) -> Text:
    """Its name."""
    side = " (baseline)" if level.side == "baseline" else ""
    return Text(f"\n{level.scenario}, {level.name}{side}", style="bold")


def table_of(level: Level) -> Table:
    """A row per metric, in milliseconds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("milliseconds", no_wrap=True)
    titles = (
        "min",
        "mean",
        *(f"P{key}" for key in _KEYS),
        "max",
        "std",
        "client ±",
        "P99.9 ±",
        "n",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    for metric in SHOWN:
        values = level.metrics.get(metric)
        if values is not None and values.count:
            table.add_row(metric, *_cells(values))
    return table


def _cells(values: Distribution) -> Iterable[str]:
    error = values.client_error
    bars = ["?" if error is None else milliseconds(error.at(key)) for key in ("99", "99.9")]
    if values.below_client_error and error is not None:
        blank = [""] * (len(_KEYS) + 3)
        return [f"< {milliseconds(error.mean)}", *blank, *bars, str(values.count)]
    numbers = [values.min, values.mean, *(values.percentiles.get(key) for key in _KEYS)]
    numbers += [values.max, values.standard_deviation]
    return [*(milliseconds(number) for number in numbers), *bars, str(values.count)]


def facts(level: Level) -> Text:
    """Counts and rates."""
    requests, throughput = level.requests, level.throughput
    share = requests.succeeded / requests.attempted if requests.attempted else 0.0
    lines = [
        f"{requests.attempted} requests in {level.window_seconds:.1f} s, {share:.2%} succeeded"
        + (f", {requests.unfinished} unfinished" if requests.unfinished else ""),
        f"{throughput.requests:.1f} requests/s, in flight {level.in_flight.mean:.2f} on average, "
        f"{level.in_flight.max} at most",
        _tokens(level),
    ]
    if requests.errors:
        kinds = ", ".join(f"{kind} {count}" for kind, count in requests.errors.items())
        lines.append(f"errors: {kinds}")
    if throughput.good_requests is not None:
        part = (requests.good or 0) / max(1, requests.attempted)
        lines.append(f"goodput {throughput.good_requests:.1f} requests/s, {part:.1%} of all")
    if level.chunks is not None and level.chunks.tokens_per_chunk is not None:
        lines.append(
            f"{level.chunks.tokens_per_chunk:.2f} tokens per chunk, {level.chunks.shared_reads} of "
            f"{level.chunks.count} chunks shared a read, {level.chunks.stalls} stalls over "
            f"{level.chunks.stall_seconds:g} s"
        )
    return Text("\n".join(lines))


def _tokens(level: Level) -> str:
    tokens, throughput = level.tokens, level.throughput
    known = tokens.input is not None and throughput.input_tokens is not None
    taken = f"{tokens.input} in ({throughput.input_tokens:.1f}/s), " if known else ""
    out = f"{tokens.output} out ({throughput.output_tokens:.1f}/s)"
    return f"tokens: {taken}{out}, counted by {tokens.counted_by}"
