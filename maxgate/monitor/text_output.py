"""Lines for a dumb terminal and for scripts: no colours, no cursor, no box characters."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from maxgate.monitor.alerts import Alert
from maxgate.monitor.catalogue import CATALOGUE, show
from maxgate.monitor.diagnosis import Cause
from maxgate.monitor.feed import View
from maxgate.monitor.histogram import Histogram


def say_alert(alert: Alert, elapsed: float) -> str:
    """As in `requests fail: gateway.error_share 12 % (above 0.1 %) for 30 s`."""
    rule = alert.rule
    bound = rule.above if rule.above is not None else rule.below
    side = "above" if rule.above is not None else "below"
    text = f"{rule.text}: " if rule.text else ""
    value = f"{rule.number} {show(rule.number, alert.value)}"
    limit = f"{side} {show(rule.number, bound or 0.0)}"
    return f"{text}{value} ({limit}) for {elapsed - alert.since:.0f} s"


def say_evidence(cause: Cause) -> str:
    """The numbers that a cause is concluded from."""
    return "; ".join(map(str, cause.evidence))


def say_diagnosis(view: View) -> Iterator[str]:
    """What is slower than usual, why, and what can be done."""
    diagnosis = view.diagnosis
    if diagnosis.slower:
        yield "Slower than usual: " + "; ".join(map(str, diagnosis.slower))
    if not diagnosis.causes:
        yield "The numbers name no cause." if diagnosis.slower else "Nothing is wrong."
        return
    for index, cause in enumerate(diagnosis.causes):
        yield f"{'Cause' if index == 0 else 'Also'}: {cause.name}"
        yield f"  because: {say_evidence(cause)}"
        yield f"  to do:   {cause.advice}"


def say_span(seconds: float) -> str:
    """As in `3 h 12 min`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


_COLUMNS: Final = {
    "req": "gateway.requests",
    "failed": "gateway.error_share",
    "P50": "gateway.latency_p50",
    "P95": "gateway.latency_p95",
    "P99": "gateway.latency_p99",
    "ttft P50": "gateway.ttft_p50",
    "ttft P95": "gateway.ttft_p95",
    "tokens": "gateway.output_tokens",
    "flight": "gateway.in_flight",
    "queued": "max.queued",
    "KV": "max.kv_used",
    "gw cpu": "gateway.cpu_per_worker",
    "cpu": "host.cpu",
}
_LINES_PER_HEADER: Final = 20
_WIDTH: Final = 9


class PlainLines:
    """A line per snapshot, and one for each alert and cause that comes or goes."""

    def __init__(self) -> None:
        self._lines = 0
        self._said: tuple[str, ...] = ()

    def lines(self, view: View) -> Iterator[str]:
        """What to print for this snapshot."""
        if self._lines % _LINES_PER_HEADER == 0:
            yield _row("time", list(_COLUMNS))
        self._lines += 1
        clock = datetime.fromtimestamp(view.snapshot.at).astimezone().strftime("%H:%M:%S")
        numbers = view.numbers
        cells = [show(n, numbers[n]) if n in numbers else "-" for n in _COLUMNS.values()]
        yield (
            _row(clock, cells) if view.away_since is None else f"{clock}  {view.url}: {view.state}"
        )
        said = (
            *(
                f"{alert.rule.severity}: {alert.rule.text or alert.rule.number}"
                for alert in view.alerts
            ),
            *(f"cause: {cause.name}" for cause in view.diagnosis.causes),
        )
        yield from (f"{clock}  + {one}" for one in said if one not in self._said)
        yield from (f"{clock}  - {one}" for one in self._said if one not in said)
        self._said = said


def _row(first: str, cells: list[str]) -> str:
    return first.ljust(8) + "".join(cell.rjust(_WIDTH) for cell in cells)


def page(view: View) -> Iterator[str]:
    """One look, for `--once`."""
    at = datetime.fromtimestamp(view.snapshot.at).astimezone().isoformat(" ", "seconds")
    yield f"{view.url}: {view.state}, {at}"
    yield from (
        f"{alert.rule.severity}: {say_alert(alert, view.snapshot.elapsed)}" for alert in view.alerts
    )
    yield from say_diagnosis(view)
    numbers = view.numbers
    yield from (
        f"{name:28}{show(name, numbers[name]):>12}  {quantity.text}"
        for name, quantity in CATALOGUE.items()
        if name in numbers
    )
    yield from (
        f"{outcome:28}{recent:>12}  requests ended so; {ever} ever"
        for outcome, (recent, ever) in view.endings.items()
    )
    yield from (f"{engine.url}: {engine.error}" for engine in view.snapshot.engines if engine.error)


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
