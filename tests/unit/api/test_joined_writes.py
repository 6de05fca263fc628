"""A head waits for its body, but not for long."""

import asyncio

from maxgate.api.joined_writes import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Recorded(asyncio.Transport):
    """A transport that remembers what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.written.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.written


async def test_a_head_goes_out_with_what_is_written_next() -> None:
    inner = Recorded()
    transport = JoinedWrites(inner, asyncio.get_running_loop())
    for data in (HEAD, b"ab", b"cd", HEAD, b"", b"ef"):
        transport.write(data)
    assert inner.written == [HEAD + b"ab", b"cd", HEAD, b"ef"]


async def test_a_head_alone_goes_out_at_the_end_of_the_turn() -> None:
    inner = Recorded()
    transport = JoinedWrites(inner, asyncio.get_running_loop())
    transport.write(HEAD)
    assert inner.written == []
    await asyncio.sleep(0)
    transport.write(b"ab")
    assert inner.written == [HEAD, b"ab"]


async def test_closing_sends_what_is_held_first() -> None:
    inner = Recorded()
    transport = JoinedWrites(inner, asyncio.get_running_loop())
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert inner.written == [HEAD, b"closed"]
    assert transport.is_closing()
