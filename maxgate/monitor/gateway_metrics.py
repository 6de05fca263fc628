"""The gateway's `/metrics?buckets=true` as a GatewayReading."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from maxgate.monitor.histogram import Bucket, Histogram, merged
from maxgate.monitor.snapshot import EngineState, GatewayReading


def read_gateway(metrics: Any) -> GatewayReading:
    """The reading of the gateway's JSON.

    Only answers of models are timed; a list of models takes no time that anybody waits for.
    Raises ValueError for what is not the gateway's.
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
            latency=_histogram(models, "latency_seconds"),
            time_to_first_token=_histogram(models, "time_to_first_token_seconds"),
            time_per_output_token=_histogram(models, "time_per_output_token_seconds"),
            cpu_seconds=processes.get("cpu_seconds"),
            resident_bytes=processes.get("resident_bytes"),
            engines=tuple(_engine(engine) for engine in metrics["engines"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("it answers, but not as maxgate does") from error


def _histogram(models: Sequence[Mapping[str, Any]], name: str) -> Histogram:
    return merged(
        Histogram(
            tuple(Bucket(*bucket) for bucket in model[name].get("buckets", ())),
            (model[name]["mean"] or 0.0) * model[name]["count"],
        )
        for model in models
    )


def _engine(engine: Mapping[str, Any]) -> EngineState:
    url: str = engine["url"]
    _ = urlsplit(url).port  # raises ValueError for an address that could not be asked
    return EngineState(
        url,
        engine["state"],
        tuple(engine["models"]),
        engine["in_flight"],
        engine["error"],
    )
