"""Parses the gateway's `/metrics?buckets=true`."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from maxgate.monitor.histogram import Bucket, Histogram, merge
from maxgate.monitor.snapshot import EngineState, GatewayReading


def parse_gateway_metrics(metrics: Any) -> GatewayReading:
    """Parse the JSON document; histograms are merged over all models.

    Raises ValueError if the document is not the gateway's.
    """
    try:
        models: Sequence[Mapping[str, Any]] = list(metrics["models"].values())
        processes = metrics.get("processes") or {}
        return GatewayReading(
            uptime=float(metrics["uptime_seconds"]),
            workers=int(metrics["workers"]),
            in_flight=int(metrics["requests"]["in_flight"]),
            outcomes=dict(metrics["requests"]["by_outcome"]),
            tokens={kind: metrics["tokens"][kind] for kind in ("prompt", "completion", "cached")},
            latency=_merge_models(models, "latency_seconds"),
            time_to_first_token=_merge_models(models, "time_to_first_token_seconds"),
            time_per_output_token=_merge_models(models, "time_per_output_token_seconds"),
            cpu_seconds=processes.get("cpu_seconds"),
            resident_bytes=processes.get("resident_bytes"),
            engines=tuple(_parse_engine(engine) for engine in metrics["engines"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("not a maxgate gateway") from error


def _merge_models(models: Sequence[Mapping[str, Any]], name: str) -> Histogram:
    return merge(
        Histogram(
            tuple(Bucket(*bucket) for bucket in model[name].get("buckets", ())),
            (model[name]["mean"] or 0.0) * model[name]["count"],
        )
        for model in models
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
