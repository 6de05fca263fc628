"""Engines are checked side by side, as far as the limit of open files allows."""

import asyncio
from asyncio import StreamReader, StreamWriter

from maxgate.doctor.engines import check_engines
from maxgate.doctor.findings import Subject
from maxgate.settings import Settings
from tests.fakes.doctor import FakeHost


async def test_open_files() -> None:
    """With 16 open files, two engines are checked at a time; each has its finding."""
    connections: set[StreamWriter] = set()
    numbers: list[int] = []
    all_there = asyncio.Event()

    async def close_in_pairs(_: StreamReader, writer: StreamWriter) -> None:
        connections.add(writer)
        numbers.append(len(connections))
        if len(connections) == 2:
            all_there.set()
        await all_there.wait()
        connections.discard(writer)
        writer.close()

    async with await asyncio.start_server(close_in_pairs, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        urls = [f"http://127.0.0.1:{port}/{number}" for number in range(6)]
        findings = await check_engines(Subject(Settings(engines=urls), FakeHost(files=16)))

    assert [finding.code for finding in findings] == ["engine_unreachable"] * 6
    assert max(numbers) == 2
