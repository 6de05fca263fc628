"""The dashboard by its keys, and what its panels say."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, Static

from maxgate.monitor.alerts import DEFAULT_RULES
from maxgate.monitor.dashboard import Dashboard, Help, NumbersTable
from maxgate.monitor.feed import Watch
from maxgate.monitor.snapshot import ContainerReading, EngineState, Snapshot
from tests.unit.monitor.examples import engine, gateway, gpu, host, snapshot

AWAY = snapshot(20)


def look(at: float) -> Snapshot:
    """A busy gateway with an engine, a GPU and a container."""
    return snapshot(
        at,
        gateway(at, ok=int(at) * 30, failed=int(at)),
        engines=(engine({"queued": 6}, {"cache_hit_tokens": 1, "cache_miss_tokens": 3}),),
        host=host(at),
        gpus=(gpu(0.97),),
        containers=(ContainerReading("max", "running", at, 2**30, 2**31),),
    )


class Running:
    """A dashboard and the looks that are put into it."""

    def __init__(self) -> None:
        self.looks: asyncio.Queue[Snapshot | None] = asyncio.Queue()
        self.closed = False
        self.app = Dashboard(self._feed(), Watch("http://gateway", DEFAULT_RULES, 10))
        self.pilot: Pilot[None]

    async def _feed(self) -> AsyncGenerator[Snapshot]:
        try:
            while (one := await self.looks.get()) is not None:
                yield one
                self.looks.task_done()
            self.looks.task_done()
        finally:
            self.closed = True

    async def see(self, *looks: Snapshot | None) -> None:
        """Put looks in and wait until they are taken in."""
        for one in looks:
            self.looks.put_nowait(one)
        await self.looks.join()
        await self.pilot.pause()

    def says(self, panel: str) -> str:
        """The text of one panel."""
        widget = self.app.screen_stack[0].query_one(f"#{panel}", Static)
        return "\n".join(
            line.text.rstrip() for line in widget.render_lines(widget.outer_size.region)
        )


@asynccontextmanager
async def running(width: int = 130) -> AsyncIterator[Running]:
    """A dashboard on a screen of this width."""
    dashboard = Running()
    async with dashboard.app.run_test(size=(width, 40)) as pilot:
        dashboard.pilot = pilot
        yield dashboard


async def test_the_panels_say_how_it_is() -> None:
    async with running() as dashboard:
        await dashboard.see(look(0), look(10))
        assert "http://gateway  healthy  up 10 s, 1 worker" in dashboard.says("headline")
        assert "critical: requests fail: gateway.error_share 3.2 % " in dashboard.says("alerts")
        rows = [line.split()[:8] for line in dashboard.says("latency").splitlines()]
        assert rows[2][1:8] == ["whole", "answer", "199", "ms", "200", "ms", "200"]
        assert "http://127.0.0.1:8000" in dashboard.says("engines")
        assert "25%" in dashboard.says("engines")
        assert "waiting in MAX's queue, GPU saturated" in dashboard.says("diagnosis")
        assert "GPU 0 H200" in dashboard.says("machine")
        assert "container max" in dashboard.says("machine")
        errors = [line.strip(" │").split() for line in dashboard.says("errors").splitlines()]
        assert errors[2:4] == [["timeout", "10", "10"], ["client_error", "0", "1"]]


async def test_a_gateway_that_goes_away_is_shown_and_its_past_is_kept() -> None:
    async with running() as dashboard:
        await dashboard.see(look(0), look(10), AWAY, replace(AWAY, elapsed=25))
        assert "away for 5 s (no connection), trying again" in dashboard.says("headline")
        assert "the gateway cannot be read" in dashboard.says("diagnosis")
        await dashboard.see(look(30))
        assert "healthy" in dashboard.says("headline")
        assert dashboard.app.view is not None
        assert dashboard.app.view.history.trend("gateway.up", 9) == [1, 1, 0, 0, 1]


async def test_p_stops_the_picture_and_nothing_else() -> None:
    async with running() as dashboard:
        await dashboard.see(look(0), look(10))
        await dashboard.pilot.press("p")
        before = dashboard.says("machine")
        await dashboard.see(replace(look(20), gpus=()), replace(look(21), gpus=()))
        assert dashboard.says("machine") == before
        assert "PAUSED, 2 behind" in dashboard.says("headline")
        await dashboard.pilot.press("p")
        assert "GPU" not in dashboard.says("machine")
        assert "PAUSED" not in dashboard.says("headline")


async def test_slash_opens_the_numbers_and_filters_them() -> None:
    async with running() as dashboard:
        await dashboard.pilot.press("slash")
        assert not isinstance(dashboard.app.screen, NumbersTable)  # there are none yet
        await dashboard.see(look(0), look(10))
        await dashboard.pilot.press("slash", *"gpu.m")
        screen = dashboard.app.screen
        assert screen.query_one(Input).value == "gpu.m"
        table = screen.query_one(DataTable)
        assert [str(cell) for cell in table.get_row_at(0)][:2] == ["gpu.memory", "50 %"]
        await dashboard.see(replace(look(20), gpus=(replace(gpu(), memory_used=140),)))
        assert (table.row_count, str(table.get_row_at(0)[1])) == (1, "100 %")
        await dashboard.pilot.press("escape")
        assert not isinstance(dashboard.app.screen, NumbersTable)


async def test_question_mark_explains_and_q_quits_and_closes_the_feed() -> None:
    async with running() as dashboard:
        await dashboard.pilot.press("question_mark")
        assert isinstance(dashboard.app.screen, Help)
        await dashboard.pilot.press("escape")
        assert not isinstance(dashboard.app.screen, Help)
        await dashboard.pilot.press("q")
    assert dashboard.closed
    assert dashboard.app.return_code == 0


async def test_the_end_of_a_recording_stays_on_the_screen() -> None:
    async with running() as dashboard:
        await dashboard.see(look(0), look(10), None)
        assert "the recording is over" in dashboard.says("headline")


async def test_engines_that_are_down_or_have_no_metrics_say_why() -> None:
    down = (EngineState("http://127.0.0.1:8000", "unreachable", error="no connection"),)
    silent = replace(engine(), error="no connection")
    stranger = replace(engine(), url="http://other/metrics", error="answered 404")
    async with running(180) as dashboard:
        read = gateway(1, engines=down)
        await dashboard.see(snapshot(1, read, engines=(silent, stranger)))
        said = dashboard.says("engines")
    assert "unreachable: no connection" in said
    assert "no metrics: no connection" in said
    assert "answered 404" in said


async def test_a_narrow_terminal_has_one_column_and_a_wide_one_two() -> None:
    async with running(80) as dashboard:
        await dashboard.see(look(0), look(10))
        panels = dashboard.app.query(".panel")
        assert len({panel.region.x for panel in panels}) == 1
        assert "199 ms" in dashboard.says("latency")
        assert "decode batch" not in dashboard.says("engines")
        await dashboard.pilot.resize_terminal(140, 40)
        await dashboard.pilot.pause()
        assert len({panel.region.x for panel in panels}) == 2
        assert "decode batch" in dashboard.says("engines")
