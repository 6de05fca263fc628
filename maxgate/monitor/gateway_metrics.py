"""Parses the gateway's `/metrics?buckets=true`."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from maxgate.monitor.histogram import Bucket, Histogram, merge
from maxgate.monitor.snapshot import EngineState, GatewayReading

_GENERATION: Final = frozenset({"/v1/chat/completions", "/v1/completions"})
_EMBEDDINGS: Final = frozenset({"/v1/embeddings"})


def parse_gateway_metrics(metrics: Any) -> GatewayReading:
    """Parse the JSON document.

    Outcomes are those of routes that need an engine, tokens and times those of generation.
    Raises ValueError if the document is not the gateway's.
    """
    try:
        routes: dict[str, Mapping[str, Any]] = dict(metrics["routes"])
        generation = [route for path, route in routes.items() if path in _GENERATION]
        embeddings = [route for path, route in routes.items() if path in _EMBEDDINGS]
        processes = metrics.get("processes") or {}
        return GatewayReading(
            uptime=float(metrics["uptime_seconds"]),
            workers=int(metrics["workers"]),
            in_flight=int(metrics["requests"]["in_flight"]),
            outcomes=_sum_outcomes([*generation, *embeddings]),
            tokens={
                kind: sum(route["tokens"][kind] for route in generation)
                for kind in ("prompt", "completion", "cached")
            },
            latency=_merge(generation, "latency_seconds"),
            time_to_first_token=_merge(generation, "time_to_first_token_seconds"),
            time_per_output_token=_merge(generation, "time_per_output_token_seconds"),
            embedding_latency=_merge(embeddings, "latency_seconds"),
            cpu_seconds=processes.get("cpu_seconds"),
            resident_bytes=processes.get("resident_bytes"),
            engines=tuple(_parse_engine(engine) for engine in metrics["engines"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("not a maxgate gateway") from error


def _sum_outcomes(routes: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
    outcomes: dict[str, int] = {}
    for route in routes:
        for outcome, count in dict(route["requests"]["by_outcome"]).items():
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    return outcomes


def _merge(routes: Sequence[Mapping[str, Any]], name: str) -> Histogram:
    return merge(
        Histogram(
            tuple(Bucket(*bucket) for bucket in route[name].get("buckets", ())),
            (route[name]["mean"] or 0.0) * route[name]["count"],
        )
        for route in routes
    )


def _parse_engine(engine: Mapping[str, Any]) -> EngineState:
    url: str = engine["url"]
    _ = urlsplit(url).port  # raises ValueError if the port is not a number
    return EngineState(
        url,
        engine["state"],
        tuple(engine["models"]),
        engine["in_flight"],
        engine["error"],
    )
