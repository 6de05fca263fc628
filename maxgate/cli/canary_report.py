"""The progress and the result of a canary as text."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

_METRICS: Final = {
    "ttft": "first-token time",
    "tpot": "time per token",
    "time_per_token": "time per token, plain",
}
_REASONS: Final = {
    "busy": "the new engine was too slow",
    "engine_not_ready": "the new engine had not listed its models",
    "grammar_or_logprobs": "with a grammar or logprobs",
    "internal_error": "an error in the gateway",
    "no_response": "no response to compare with",
    "no_token_ids": "the engine formats the prompt",
    "not_greedy": "not greedy",
    "other_model": "of a model that the new engine does not serve",
    "several_engines": "served by several engines",
}


def describe_progress(report: Mapping[str, Any]) -> str:
    """Return one line with the counts so far."""
    if report["state"] == "starting":
        return f"waiting for the models of {report['url']}"
    parts = [f"{report['completed']:,} of {report['requests']:,} requests at {report['url']}"]
    if (agreement := report["agreement"]) is not None:
        parts.append(f"{agreement['equal']:,} equal")
    parts.append(f"{report['errors']:,} failed")
    parts.append(f"{report['seen']:,} seen, {sum(report['skipped'].values()):,} skipped")
    return f"{', '.join(parts)}, {report['seconds']:.0f} s"


def describe_result(report: Mapping[str, Any]) -> str:
    """Return the tables and the verdict, in several lines."""
    kind = "greedy requests mirrored" if report["mirror"] else "requests served"
    lines = [
        f"{report['url']}: {report['share']:g} % of the {kind}, {report['completed']:,} requests "
        f"in {report['seconds']:.0f} s, workers: {report['workers']}",
        "",
    ]
    if report["agreement"] is not None and report["agreement"]["responses"]:
        lines += [*_describe_agreement(report["agreement"]), ""]
    if report["times"]:
        lines += [*_build_times_table(report["times"]), ""]
    lines.append(f"errors of the new engine: {_list(report['causes'], report['errors'])}")
    skipped = {_REASONS.get(key, key): count for key, count in report["skipped"].items()}
    total = sum(skipped.values())
    lines.append(f"skipped of {report['seen']:,} requests: {_list(skipped, total)}")
    lines += ["", f"verdict: {report['verdict']}"]
    for check in report["checks"]:
        lines.append(f"  {check['name']:9}  {check['verdict']:12}  {check['reason']}")
    return "\n".join(lines)


def _list(counts: Mapping[str, int], total: int) -> str:
    named = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    return f"{total:,} ({named})" if named else f"{total:,}"


def _describe_agreement(agreement: Mapping[str, Any]) -> Sequence[str]:
    share = agreement["share"]
    lines = [
        f"responses   {agreement['responses']:,}: {agreement['equal']:,} equal, "
        f"{agreement['near_ties']:,} near ties, {agreement['different']:,} different",
        f"agreement   {share['value']:.1f} % ({share['low']:.1f} to {share['high']:.1f})",
        f"prefix      {agreement['mean_prefix']:.1f} % of a response agrees, in the mean",
    ]
    if agreement["median_divergence"] is not None:
        gap = agreement["median_gap"]
        text = "unknown" if gap is None else f"{gap:.3g}"
        lines.append(
            f"difference  at token {agreement['median_divergence']:g} in the median, with a log "
            f"probability gap of {text} between the two likeliest tokens"
        )
    if agreement["unexplained"]:
        lines.append(f"            {agreement['unexplained']:,} without log probabilities")
    return lines


def _build_times_table(times: Sequence[Mapping[str, Any]]) -> Sequence[str]:
    rows = [("MEDIAN", "SAMPLES", "NORMAL", "NEW", "CHANGE")]
    for one in times:
        name, samples = _METRICS[one["metric"]], f"{one['samples']:,}"
        old, new = (_format(one[side], 1000, "ms") for side in ("old", "new"))
        rows.append((name, samples, old, new, _format(one["slowdown"], 1, "%", sign="+")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _format(estimate: Mapping[str, Any], factor: float, unit: str, sign: str = "") -> str:
    """Format a value and its interval, such as `41.2 ms (40.1 to 42.6)`."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "-"
    text = f"{factor * value:{sign}.1f} {unit}"
    if low is None or high is None:
        return text
    return f"{text} ({factor * low:{sign}.1f} to {factor * high:{sign}.1f})"
