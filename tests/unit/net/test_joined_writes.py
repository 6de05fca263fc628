"""The writes of a turn go out together, and nothing is lost when the connection closes."""

import asyncio

from maxgate.net.write_buffer import BufferedTransport, WriteBuffer
from tests.fakes.recorded_transport import RecordedTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


async def test_head_and_body_are_one_write_at_the_end_of_the_turn() -> None:
    inner = RecordedTransport()
    transport = BufferedTransport(inner, WriteBuffer())
    for data in (HEAD, b"ab", b"", bytearray(b"cd")):
        transport.write(data)
    assert inner.written == []
    await asyncio.sleep(0)
    transport.write(b"ef")
    await asyncio.sleep(0)
    assert inner.written == [HEAD + b"abcd", b"ef"]


async def test_closing_sends_what_is_held_first() -> None:
    inner = RecordedTransport()
    transport = BufferedTransport(inner, WriteBuffer())
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert inner.written == [HEAD, b"closed"]
    assert transport.is_closing()
