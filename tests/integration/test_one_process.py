"""Benchmarks run gateways that differ in their settings in one process."""

import asyncio
import signal
import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import httpx

from benchmarks.admission.stack import BODY
from benchmarks.gateway.http_client import StandIn
from benchmarks.gateway.one_process import run_in_one_process
from tests.fakes.gateway import TLS
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving
from tests.fakes.waiting import until_holds

CHAT = {"messages": [{"role": "user", "content": "Hello"}]}


def count_lines(database: Path) -> int:
    """Return the number of lines in a database of usage."""
    with closing(sqlite3.connect(database)) as connection:
        [count] = connection.execute("SELECT count(*) FROM usage_entries").fetchone()
    return int(count)


async def test_move(tmp_path: Path) -> None:
    """Each gateway has its settings, and a signal lets a ledger move its lines."""
    usage = {"usage": {"enabled": True, "move_interval": 60.0}, "state_dir": str(tmp_path)}
    configs = {"plain": {}, "ledger": usage}
    async with serving(FakeMax()) as url:
        engine = StandIn(int(url.rpartition(":")[2]))
        with ExitStack() as stack:
            running = run_in_one_process(configs, engine, BODY, 0, tmp_path)
            gateways = await asyncio.to_thread(stack.enter_context, running)
            assert gateways["plain"].process is gateways["ledger"].process
            async with httpx.AsyncClient(verify=TLS, timeout=30) as client:
                for gateway in gateways.values():
                    target = f"http://127.0.0.1:{gateway.target.port}/v1/chat/completions"
                    assert (await client.post(target, json=CHAT)).status_code == 200
            gateways["ledger"].process.send_signal(signal.SIGRTMIN + 1)
            # One line is that of the request that waited for the start.
            await until_holds(lambda: count_lines(tmp_path / "maxgate.db") == 2)
