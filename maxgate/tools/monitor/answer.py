"""One look as JSON, for scripts (`--once --json`)."""

from dataclasses import asdict
from typing import Any, Final

from maxgate.tools.monitor.histogram import Histogram
from maxgate.tools.monitor.quantities import CATALOGUE
from maxgate.tools.monitor.watch import View

VERSION: Final = 1


def answer(view: View) -> dict[str, Any]:
    """Every number by its name, null where it could not be told, and what follows from them."""
    numbers = view.numbers
    return {
        "version": VERSION,
        "at": view.snapshot.at,
        "url": view.url,
        "state": view.state,
        "window_seconds": view.history.window,
        "numbers": {name: numbers.get(name) for name in CATALOGUE},
        "since_start": _since_start(view),
        "endings": {
            outcome: {"window": recent, "ever": ever}
            for outcome, (recent, ever) in view.endings.items()
        },
        "engines": [
            {"url": engine.url, "error": engine.error, **engine.gauges, **engine.counters}
            for engine in view.snapshot.engines
        ],
        "gpus": [asdict(gpu) for gpu in view.snapshot.gpus],
        "containers": [asdict(container) for container in view.snapshot.containers],
        "slower": [asdict(evidence) for evidence in view.diagnosis.slower],
        "causes": [asdict(cause) for cause in view.diagnosis.causes],
        "alerts": [
            {
                **alert.rule.model_dump(by_alias=True),
                "value": alert.value,
                "since_seconds": view.snapshot.elapsed - alert.since,
            }
            for alert in view.alerts
        ],
    }


def _since_start(view: View) -> dict[str, Any] | None:
    gateway = view.snapshot.gateway
    if gateway is None:
        return None
    return {
        "seconds": gateway.uptime,
        "latency": _summary(gateway.latency),
        "time_to_first_token": _summary(gateway.time_to_first_token),
        "time_per_output_token": _summary(gateway.time_per_output_token),
    }


def _summary(histogram: Histogram) -> dict[str, float | None]:
    percentiles = {f"p{p}": histogram.percentile(p) for p in (50, 95, 99)}
    return {"count": histogram.count, "mean": histogram.mean, **percentiles}
