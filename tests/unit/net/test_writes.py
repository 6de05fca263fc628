"""Writes wait for the end of the turn, in order, each socket's own joined."""

import asyncio

from maxgate.net.write_buffer import WriteBuffer
from tests.fakes.recorded_transport import RecordedTransport


async def test_the_writes_of_a_turn_are_one_per_socket_in_the_order_of_the_first() -> None:
    order: list[str] = []

    class Noted(RecordedTransport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            super().write(data)
            order.append(bytes(data).decode())

    one, other, writes = Noted(), Noted(), WriteBuffer()
    for transport, data in ((one, b"a"), (other, b"b"), (one, b"c")):
        writes.write(transport, data)
    await asyncio.sleep(0)
    writes.write(other, b"d")
    await asyncio.sleep(0)
    assert order == ["ac", "b", "d"]


async def test_a_socket_that_closes_before_the_end_gets_nothing_and_takes_nothing_with_it() -> None:
    closing, other, writes = RecordedTransport(), RecordedTransport(), WriteBuffer()
    writes.write(closing, b"a")
    writes.write(other, b"b")
    closing.close()
    await asyncio.sleep(0)
    assert (closing.written, other.written) == ([b"closed"], [b"b"])


async def test_what_is_flushed_is_not_written_again() -> None:
    transport, writes = RecordedTransport(), WriteBuffer()
    writes.write(transport, b"a")
    writes.flush()
    writes.write(transport, b"b")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.written == [b"a", b"b"]
