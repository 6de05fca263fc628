"""Plain lines, pages and JSON."""

import orjson
import pytest

from maxgate.monitor.alerts import DESIGN_RULES
from maxgate.monitor.text_output import LineFormatter, build_json, format_duration, format_page
from maxgate.monitor.view import Monitor, View
from tests.unit.monitor.examples import engine, gateway, gpu, host, snapshot


def views(*, down: bool = False) -> list[View]:
    """Two views of a busy gateway, and one after it became unreachable."""
    monitor = Monitor("http://gateway", DESIGN_RULES, 10)
    snapshots = [
        snapshot(
            at,
            gateway(at, ok=30 * at),
            engines=(engine({"queued": 6}),),
            host=host(at),
            gpus=(gpu(0.97),),
        )
        for at in (0, 10)
    ]
    return [monitor.update(one) for one in [*snapshots, *([snapshot(12)] if down else [])]]


def test_lines() -> None:
    """There is a line per view, and one for each alert or cause that starts or ends."""
    formatter = LineFormatter()
    lines = [line for view in views(down=True) for line in formatter.format(view)]
    rows = [line.split()[1:] for line in lines]
    assert rows[0][:4] == ["req", "failed", "P50", "P95"]
    assert rows[3][:8] == ["30/s", "0", "%", "199", "ms", "200", "ms", "200"]
    assert [line[10:] for line in lines if line[8:12] in {"  + ", "  - "}] == [
        "+ cause: queue in MAX, GPU saturated",
        "+ critical: gateway unreachable",
        "+ cause: gateway unreachable",
        "- cause: queue in MAX, GPU saturated",
    ]
    assert lines[4].endswith("http://gateway: unreachable for 0 s (connection failed), retrying")
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    ("width", "columns"),
    [(None, 13), (160, 13), (100, 10), (80, 8), (40, 5)],
)
def test_lines_fit_the_terminal(width: int | None, columns: int) -> None:
    """A narrow terminal has the most important columns only."""
    header, row, *_ = LineFormatter(width).format(views()[0])
    assert len(header) == 8 + 9 * columns
    assert len(row) == len(header)
    assert header.split()[1:4] == ["req", "failed", "P50"]


def test_repeated_header() -> None:
    """The header is repeated every 20 lines."""
    formatter, view = LineFormatter(), views()[-1]
    lines = [line for _ in range(41) for line in formatter.format(view)]
    assert sum(line.startswith("time") for line in lines) == 3


def test_page() -> None:
    """A page has the state, the causes with their evidence, and all metrics."""
    lines = list(format_page(views()[-1]))
    assert lines[0].startswith("http://gateway: healthy, 2027-01-15")
    assert lines[1:4] == [
        "Cause: queue in MAX, GPU saturated",
        "  evidence: max.queued 6; max.running 1; gpu.utilisation 97 %; host.cpu 25 %",
        "  advice:   add a replica (another --engine-url), or send fewer requests",
    ]
    assert "gateway.requests                    30/s  completed requests for models" in lines


def test_json() -> None:
    """The JSON has every metric under its stable keys, null if unknown."""
    document = orjson.loads(orjson.dumps(build_json(views()[-1])))
    assert document["numbers"]["gateway.requests"] == 30
    assert document["numbers"]["max.preemptions"] is None
    assert document["causes"][0]["evidence"][0] == {
        "number": "max.queued",
        "value": 6.0,
        "usual": None,
    }
    assert document["endings"] == {
        "timeout": {"window": 0, "ever": 0},
        "client_error": {"window": 0, "ever": 1},
    }
    assert document["since_start"]["latency"] == {
        "count": 300,
        "mean": 0.2,
        "p50": pytest.approx(0.199),
        "p95": pytest.approx(0.1999),
        "p99": pytest.approx(0.19998),
    }


def test_json_of_an_unreachable_gateway() -> None:
    """Without the gateway there are no totals, and the alert has its stable keys."""
    document = build_json(views(down=True)[-1])
    assert document["since_start"] is None
    assert document["alerts"][0] == {
        "number": "gateway.up",
        "above": None,
        "below": 1.0,
        "for": 0.0,
        "severity": "critical",
        "text": "gateway unreachable",
        "value": 0.0,
        "since_seconds": 0.0,
    }


def test_json_keys() -> None:
    """The keys of the JSON document are stable."""
    document = build_json(views()[-1])
    assert list(document) == [
        "version",
        "at",
        "url",
        "state",
        "window_seconds",
        "numbers",
        "since_start",
        "endings",
        "engines",
        "gpus",
        "containers",
        "slower",
        "causes",
        "alerts",
    ]
    assert list(document["causes"][0]) == ["name", "advice", "evidence"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s"), (130, "2 min"), (3 * 3600 + 720, "3 h 12 min"), (4 * 86400, "4 days")],
)
def test_durations(seconds: float, text: str) -> None:
    """Durations are shown in at most two units."""
    assert format_duration(seconds) == text
