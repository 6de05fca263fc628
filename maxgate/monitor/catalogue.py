"""The name, unit and meaning of every number that the monitor tells.

Rates and percentiles are over the window (`--window`), gauges too: their mean. P95 is told from 20
values on and P99 from 100; of fewer it would be the largest one.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Unit = Literal["", "s", "/s", "share", "bytes", "W", "°C"]


class Quantity(NamedTuple):
    """What a number is in, and what it says."""

    unit: Unit
    text: str


def _percentiles(prefix: str, text: str) -> dict[str, Quantity]:
    percentiles = {f"{prefix}_p{p}": Quantity("s", f"{text}, P{p}") for p in (50, 95, 99)}
    return {f"{prefix}_mean": Quantity("s", f"{text}, mean"), **percentiles}


CATALOGUE: Final[Mapping[str, Quantity]] = {
    "gateway.up": Quantity("", "1 if the gateway answers, 0 if not"),
    "gateway.requests": Quantity("/s", "requests that ended"),
    "gateway.errors": Quantity("/s", "of them failed, the client's own mistakes left out"),
    "gateway.error_share": Quantity("share", "failed requests of all"),
    "gateway.answers": Quantity("", "requests that went well in the window"),
    "gateway.in_flight": Quantity("", "requests being answered, mean"),
    **_percentiles("gateway.latency", "whole answer, of those that went well"),
    **_percentiles("gateway.ttft", "arrival to first token, streams"),
    **_percentiles("gateway.tpot", "time per output token after the first, streams"),
    "gateway.output_tokens": Quantity("/s", "tokens generated"),
    "gateway.prompt_tokens": Quantity("/s", "tokens of prompts"),
    "gateway.cached_share": Quantity("share", "prompt tokens from the engine's cache"),
    "gateway.prompt_tokens_each": Quantity("", "prompt tokens per answer"),
    "gateway.output_tokens_each": Quantity("", "generated tokens per answer"),
    "gateway.cpu_cores": Quantity("", "processor cores that the workers keep busy"),
    "gateway.cpu_per_worker": Quantity(
        "share", "of a core per worker; a worker has no more than 1"
    ),
    "gateway.memory": Quantity("bytes", "memory of the workers"),
    "engines.known": Quantity("", "engines that the gateway has"),
    "engines.healthy": Quantity("", "engines that can be asked"),
    "max.up": Quantity("", "engines whose own metrics can be read"),
    "max.running": Quantity("", "requests in MAX's batches, mean"),
    "max.queued": Quantity("", "requests waiting for MAX's scheduler, mean"),
    "max.awaiting_admission": Quantity("", "requests in MAX's API process, mean"),
    "max.responses_buffered": Quantity("", "answers that MAX's API process has yet to send, mean"),
    **_percentiles("max.ttft", "MAX: arrival to first token"),
    **_percentiles("max.tpot", "MAX: time per output token"),
    "max.output_tokens": Quantity("/s", "tokens that MAX generated"),
    "max.batch_prefill": Quantity("", "requests per prefill batch"),
    "max.batch_decode": Quantity("", "requests per decode batch"),
    "max.step_prefill": Quantity("s", "time of a prefill batch"),
    "max.step_decode": Quantity("s", "time of a decode step"),
    "max.kv_used": Quantity("share", "KV cache blocks in use, fullest engine"),
    "max.cache_hits": Quantity("share", "prompt tokens found in MAX's prefix cache"),
    "max.preemptions": Quantity("/s", "requests evicted for lack of KV cache"),
    "host.cpu": Quantity("share", "processor of this machine"),
    "host.memory": Quantity("share", "memory of this machine"),
    "host.disk": Quantity("share", "disk of this machine"),
    "gpu.utilisation": Quantity("share", "time in which the busiest GPU ran something"),
    "gpu.memory": Quantity("share", "memory of the fullest GPU"),
    "gpu.power": Quantity("W", "all GPUs together"),
    "gpu.temperature": Quantity("°C", "hottest GPU"),
    "gpu.slowed": Quantity("", "GPUs whose clocks are held down by heat or power"),
    "container.cpu_cores": Quantity("", "processor cores of the busiest container"),
    "container.memory": Quantity("share", "of its limit, fullest container"),
    "container.throttled": Quantity("share", "of time at its CPU limit, worst container"),
}
"""In the order in which they are shown."""


def show(name: str, value: float) -> str:
    """A value with its unit, short: `1.20 s`, `35 ms`, `97 %`, `412 MiB`."""
    match CATALOGUE[name].unit:
        case "s":
            return show_seconds(value)
        case "share":
            return f"{value * 100:.{0 if value >= 0.1 or value == 0 else 1}f} %"
        case "bytes":
            return show_bytes(value)
        case "/s":
            return f"{_plain(value)}/s"
        case "":
            return _plain(value)
        case unit:
            return f"{value:.0f} {unit}"


def show_seconds(seconds: float) -> str:
    """Milliseconds below one second."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.{0 if seconds >= 0.1 else 1}f} ms"


def show_bytes(size: float) -> str:
    """In MiB, or GiB from one on."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _plain(value: float) -> str:
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
