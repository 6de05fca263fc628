"""Lines, pages, JSON and trends say the same as the screen."""

import orjson
import pytest

from maxgate.monitor.alerts import DEFAULT_RULES
from maxgate.monitor.feed import View, Watch
from maxgate.monitor.panels import bar, sparkline
from maxgate.monitor.text_output import PlainLines, answer, page, say_span
from tests.unit.monitor.examples import engine, gateway, gpu, host, snapshot


def views(*, away: bool = False) -> list[View]:
    """Two busy looks, and one in which the gateway is away."""
    watch = Watch("http://gateway", DEFAULT_RULES, 10)
    looks = [
        snapshot(
            at,
            gateway(at, ok=30 * at),
            engines=(engine({"queued": 6}),),
            host=host(at),
            gpus=(gpu(0.97),),
        )
        for at in (0, 10)
    ]
    return [watch.see(one) for one in [*looks, *([snapshot(12)] if away else [])]]


def test_a_line_per_look_and_one_for_each_change() -> None:
    plain = PlainLines()
    lines = [line for view in views(away=True) for line in plain.lines(view)]
    rows = [line.split()[1:] for line in lines]
    assert rows[0][:4] == ["req", "failed", "P50", "P95"]
    assert rows[3][:8] == ["30/s", "0", "%", "199", "ms", "200", "ms", "200"]
    assert [line[10:] for line in lines if line[8:12] in {"  + ", "  - "}] == [
        "+ cause: waiting in MAX's queue, GPU saturated",
        "+ critical: the gateway cannot be read",
        "+ cause: the gateway cannot be read",
        "- cause: waiting in MAX's queue, GPU saturated",
    ]
    assert lines[4].endswith("http://gateway: away for 0 s (no connection), trying again")
    assert all(line.isascii() for line in lines)


def test_the_header_comes_again() -> None:
    plain, view = PlainLines(), views()[-1]
    lines = [line for _ in range(41) for line in plain.lines(view)]
    assert sum(line.startswith("time") for line in lines) == 3


def test_a_page_names_the_cause_with_its_evidence() -> None:
    lines = list(page(views()[-1]))
    assert lines[0].startswith("http://gateway: healthy, 2027-01-15")
    assert lines[1:4] == [
        "Cause: waiting in MAX's queue, GPU saturated",
        "  because: max.queued 6; max.running 1; gpu.utilisation 97 %; host.cpu 25 %",
        "  to do:   the GPU has no time left: add a replica (another --engine-url), or send less",
    ]
    assert "gateway.requests                    30/s  requests that ended" in lines


def test_the_json_has_every_number_and_null_for_what_is_not_known() -> None:
    found = orjson.loads(orjson.dumps(answer(views()[-1])))
    assert found["numbers"]["gateway.requests"] == 30
    assert found["numbers"]["max.preemptions"] is None
    assert found["causes"][0]["evidence"][0] == {
        "number": "max.queued",
        "value": 6.0,
        "usual": None,
    }
    assert found["endings"] == {
        "timeout": {"window": 0, "ever": 0},
        "client_error": {"window": 0, "ever": 1},
    }
    assert found["since_start"]["latency"] == {
        "count": 300,
        "mean": 0.2,
        "p50": pytest.approx(0.199),
        "p95": pytest.approx(0.1999),
        "p99": pytest.approx(0.19998),
    }
    gone = answer(views(away=True)[-1])
    assert gone["since_start"] is None
    assert gone["alerts"][0] == {
        "number": "gateway.up",
        "above": None,
        "below": 1.0,
        "for": 0.0,
        "severity": "critical",
        "text": "the gateway cannot be read",
        "value": 0.0,
        "since_seconds": 0.0,
    }


@pytest.mark.parametrize(
    ("values", "width", "shown"),
    [
        ([], 4, "    "),
        ([0.0, None, 4.0, 8.0], 6, "  ▁ ▅█"),
        ([0.0, 0.0], 2, "▁▁"),
        ([1.0, 8.0, 2.0, 2.0], 2, "█▃"),
        ([1.0], 0, ""),
    ],
)
def test_a_trend_keeps_its_peaks(values: list[float | None], width: int, shown: str) -> None:
    assert sparkline(values, width) == shown


def test_a_bar_is_never_longer_than_it_may_be() -> None:
    assert [bar(share, 4) for share in (-1, 0.5, 7)] == ["╌╌╌╌", "━━╌╌", "━━━━"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(5, "5 s"), (130, "2 min"), (3 * 3600 + 720, "3 h 12 min"), (4 * 86400, "4 days")],
)
def test_spans_of_time(seconds: float, said: str) -> None:
    assert say_span(seconds) == said
