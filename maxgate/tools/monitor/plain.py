"""Lines for a dumb terminal and for scripts: no colours, no cursor, no box characters."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from maxgate.tools.monitor.quantities import CATALOGUE, show
from maxgate.tools.monitor.sentences import say_alert, say_diagnosis
from maxgate.tools.monitor.watch import View

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
