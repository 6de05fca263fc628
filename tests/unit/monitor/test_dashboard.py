"""The dashboard: keys, layout and contents of the panels."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from maxgate.monitor.alerts import DESIGN_RULES
from maxgate.monitor.dashboard import Dashboard, Help, MetricsTable
from maxgate.monitor.snapshot import ContainerReading, EngineState, Snapshot
from maxgate.monitor.view import Monitor
from tests.unit.monitor.examples import engine, gateway, gpu, host, snapshot

DOWN = snapshot(20)


def busy(at: float) -> Snapshot:
    """A busy gateway with an engine, a GPU and a container."""
    return snapshot(
        at,
        gateway(at, ok=int(at) * 30, failed=int(at)),
        engines=(engine({"queued": 6}, {"cache_hit_tokens": 1, "cache_miss_tokens": 3}),),
        host=host(at),
        gpus=(gpu(0.97),),
        containers=(ContainerReading("max", "running", at, 2**30, 2**31),),
    )


class RunningDashboard:
    """A dashboard whose feed the test controls."""

    def __init__(self) -> None:
        self._snapshots: asyncio.Queue[Snapshot | None] = asyncio.Queue()
        self.closed = False
        self.app = Dashboard(self._feed(), Monitor("http://gateway", DESIGN_RULES, 10))
        self.pilot: Pilot[None]

    async def _feed(self) -> AsyncGenerator[Snapshot]:
        try:
            while (one := await self._snapshots.get()) is not None:
                yield one
                self._snapshots.task_done()
            self._snapshots.task_done()
        finally:
            self.closed = True

    async def feed(self, *snapshots: Snapshot | None) -> None:
        """Send snapshots, None for the end, and wait until they are drawn."""
        for one in snapshots:
            self._snapshots.put_nowait(one)
        await self._snapshots.join()
        await self.pilot.pause()

    def text(self, panel: str) -> str:
        """The text of one panel."""
        widget = self.app.screen_stack[0].query_one(f"#{panel}", Static)
        return "\n".join(
            line.text.rstrip() for line in widget.render_lines(widget.outer_size.region)
        )


@asynccontextmanager
async def run_dashboard(width: int = 130) -> AsyncIterator[RunningDashboard]:
    """A dashboard on a terminal of this width."""
    dashboard = RunningDashboard()
    async with dashboard.app.run_test(size=(width, 40)) as pilot:
        dashboard.pilot = pilot
        yield dashboard


async def test_panels() -> None:
    """The panels show the metrics, causes and alerts of the last snapshot."""
    async with run_dashboard() as dashboard:
        await dashboard.feed(busy(0), busy(10))
        assert "http://gateway  healthy  up 10 s, 1 worker" in dashboard.text("headline")
        assert "critical: requests fail: gateway.error_share 3.2 % " in dashboard.text("alerts")
        rows = [line.strip(" │").split() for line in dashboard.text("latency").splitlines()]
        assert rows[2][:6] == ["request", "199", "ms", "200", "ms", "200"]
        assert "127.0.0.1:8000" in dashboard.text("engines")
        assert "25%" in dashboard.text("engines")
        assert "queue in MAX, GPU saturated" in dashboard.text("diagnosis")
        assert "GPU 0 H200" in dashboard.text("host")
        assert "container max" in dashboard.text("host")
        errors = [line.strip(" │").split() for line in dashboard.text("errors").splitlines()]
        assert errors[2:4] == [["timeout", "10", "10"], ["client_error", "0", "1"]]


async def test_unreachable_gateway() -> None:
    """An outage is shown, and the history continues after it."""
    async with run_dashboard() as dashboard:
        await dashboard.feed(busy(0), busy(10), DOWN, replace(DOWN, elapsed=25))
        assert "unreachable for 5 s (connection failed), retrying" in dashboard.text("headline")
        assert "gateway unreachable" in dashboard.text("diagnosis")
        await dashboard.feed(busy(30))
        assert "healthy" in dashboard.text("headline")
        assert dashboard.app.view is not None
        assert dashboard.app.view.history.trend("gateway.up", 9) == [1, 1, 0, 0, 1]


async def test_pause() -> None:
    """`p` pauses only the display."""
    async with run_dashboard() as dashboard:
        await dashboard.feed(busy(0), busy(10))
        await dashboard.pilot.press("p")
        before = dashboard.text("host")
        await dashboard.feed(replace(busy(20), gpus=()), replace(busy(21), gpus=()))
        assert dashboard.text("host") == before
        assert "PAUSED, 2 behind" in dashboard.text("headline")
        await dashboard.pilot.press("p")
        assert "GPU" not in dashboard.text("host")
        assert "PAUSED" not in dashboard.text("headline")


async def test_metrics_table() -> None:
    """`/` lists the metrics with a filter, once there are any."""
    async with run_dashboard() as dashboard:
        await dashboard.pilot.press("slash")
        assert not isinstance(dashboard.app.screen, MetricsTable)
        await dashboard.feed(busy(0), busy(10))
        await dashboard.pilot.press("slash", *"gpu.m")
        screen = dashboard.app.screen
        assert screen.query_one(Input).value == "gpu.m"
        table = screen.query_one(DataTable)
        assert [str(cell) for cell in table.get_row_at(0)][:2] == ["gpu.memory", "50 %"]
        await dashboard.feed(replace(busy(20), gpus=(replace(gpu(), memory_used=140),)))
        assert (table.row_count, str(table.get_row_at(0)[1])) == (1, "100 %")
        await dashboard.pilot.press("escape")
        assert not isinstance(dashboard.app.screen, MetricsTable)


async def test_help_and_quit() -> None:
    """`?` shows the help; `q` quits and closes the feed."""
    async with run_dashboard() as dashboard:
        await dashboard.pilot.press("question_mark")
        assert isinstance(dashboard.app.screen, Help)
        await dashboard.pilot.press("escape")
        assert not isinstance(dashboard.app.screen, Help)
        await dashboard.pilot.press("q")
    assert dashboard.closed
    assert dashboard.app.return_code == 0


async def test_end_of_recording() -> None:
    """The last snapshot stays on screen after the end of a recording."""
    async with run_dashboard() as dashboard:
        await dashboard.feed(busy(0), busy(10), None)
        assert "end of recording" in dashboard.text("headline")
        assert "199 ms" in dashboard.text("latency")


async def test_engine_errors() -> None:
    """Engines that are down or have no metrics are shown with the error."""
    down = (EngineState("http://127.0.0.1:8000", "unreachable", error="connection failed"),)
    unreadable = replace(engine(), error="connection failed")
    unknown = replace(engine(), url="http://other/metrics", error="HTTP 404")
    async with run_dashboard(180) as dashboard:
        reading = gateway(1, engines=down)
        await dashboard.feed(snapshot(1, reading, engines=(unreadable, unknown)))
        text = dashboard.text("engines")
    assert "unreachable: connection failed" in text
    assert "no metrics: connection failed" in text
    assert "HTTP 404" in text


def many_engines(count: int, *, unhealthy: int) -> Snapshot:
    """A gateway with this many engines, of which one is unhealthy."""
    engines = tuple(
        EngineState(f"http://10.0.0.{k}:8000", "unhealthy" if k == unhealthy else "healthy", (), 0)
        for k in range(count)
    )
    return snapshot(10, gateway(10, ok=5, engines=engines))


@pytest.mark.parametrize("width", [80, 130])
async def test_all_engines_are_shown(width: int) -> None:
    """Fifteen engines have a line each; an unhealthy one comes first."""
    async with run_dashboard(width) as dashboard:
        await dashboard.feed(many_engines(15, unhealthy=9))
        lines = dashboard.text("engines").splitlines()[2:-1]
        assert [line.split()[1:3] for line in lines[:2]] == [
            ["10.0.0.9:8000", "unhealthy"],
            ["10.0.0.0:8000", "healthy"],
        ]
        assert len(lines) == 15


async def test_all_panels_can_be_reached() -> None:
    """Panels that do not fit are below the visible part and can be scrolled to."""
    async with run_dashboard() as dashboard:
        await dashboard.feed(many_engines(15, unhealthy=9))
        assert dashboard.app.query_one("#errors").outer_size.height == 8
        await dashboard.pilot.resize_terminal(130, 24)
        await dashboard.pilot.pause()
        assert dashboard.app.query_one("#errors").outer_size.height == 8
        assert dashboard.app.query_one("#panels").max_scroll_y > 0


async def test_outage_hides_no_errors() -> None:
    """Without a gateway, engines and errors are unknown instead of absent."""
    async with run_dashboard() as dashboard:
        await dashboard.feed(DOWN)
        assert "unknown until the gateway responds" in dashboard.text("engines")
        assert "unknown" in dashboard.text("errors")


async def test_more_engines_are_counted() -> None:
    """Of a hundred engines, the most important ones are shown and the rest is counted."""
    async with run_dashboard() as dashboard:
        await dashboard.feed(many_engines(100, unhealthy=99))
        lines = dashboard.text("engines").splitlines()[2:-1]
        assert lines[0].split()[1:3] == ["10.0.0.99:8000", "unhealthy"]
        assert lines[-1].split()[1:5] == ["85", "more", "none", "unhealthy"]


async def test_width() -> None:
    """A narrow terminal has one column of panels and a wide one has two."""
    async with run_dashboard(80) as dashboard:
        await dashboard.feed(busy(0), busy(10))
        panels = dashboard.app.query(".panel")
        assert len({panel.region.x for panel in panels}) == 1
        assert "199 ms" in dashboard.text("latency")
        assert "decode batch" not in dashboard.text("engines")
        await dashboard.pilot.resize_terminal(140, 40)
        await dashboard.pilot.pause()
        assert len({panel.region.x for panel in panels}) == 2
        assert "decode batch" in dashboard.text("engines")
