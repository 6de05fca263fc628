"""Writes of one event loop iteration leave together, one per socket, in order."""

import asyncio

from maxgate.net.write_buffer import BufferedTransport, WriteBuffer
from tests.fakes.recorded_transport import RecordedTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


async def test_one_write_per_socket() -> None:
    """Sockets are written in the order of their first write, each with its data joined."""
    order: list[str] = []

    class OrderedTransport(RecordedTransport):
        def write(self, data: bytes | bytearray | memoryview) -> None:
            super().write(data)
            order.append(bytes(data).decode())

    one, other, writes = OrderedTransport(), OrderedTransport(), WriteBuffer()
    for transport, data in ((one, b"a"), (other, b"b"), (one, b"c")):
        writes.write(transport, data)
    await asyncio.sleep(0)
    writes.write(other, b"d")
    await asyncio.sleep(0)
    assert order == ["ac", "b", "d"]


async def test_closed_socket() -> None:
    """Data for a socket that closes before the flush is dropped, other sockets are written."""
    closing, other, writes = RecordedTransport(), RecordedTransport(), WriteBuffer()
    writes.write(closing, b"a")
    writes.write(other, b"b")
    closing.close()
    await asyncio.sleep(0)
    assert (closing.written, other.written) == ([b"closed"], [b"b"])


async def test_flush() -> None:
    """Flushed data is written once."""
    transport, writes = RecordedTransport(), WriteBuffer()
    writes.write(transport, b"a")
    writes.flush()
    writes.write(transport, b"b")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.written == [b"a", b"b"]


async def test_buffered_transport() -> None:
    """Writes of one iteration reach the inner transport as one write at its end."""
    inner = RecordedTransport()
    transport = BufferedTransport(inner, WriteBuffer())
    for data in (HEAD, b"ab", b"", bytearray(b"cd")):
        transport.write(data)
    assert inner.written == []
    await asyncio.sleep(0)
    transport.write(b"ef")
    await asyncio.sleep(0)
    assert inner.written == [HEAD + b"abcd", b"ef"]


async def test_hold() -> None:
    """Held data leaves after the release, before what is written later, and is held once."""
    inner = RecordedTransport()
    transport = BufferedTransport(inner, WriteBuffer())
    transport.write(b"a")
    release = transport.hold()
    assert release is not None
    assert transport.hold() is None
    transport.write(HEAD)
    transport.write(b"b")
    await asyncio.sleep(0)
    assert (inner.written, transport.is_holding) == ([b"a"], True)
    release()
    transport.write(b"c")
    await asyncio.sleep(0)
    assert (inner.written, transport.is_holding) == ([b"a", HEAD + b"bc"], False)
    assert transport.hold() is not None


async def test_close_while_held() -> None:
    """Closing waits for the release; what is written after it is dropped."""
    inner = RecordedTransport()
    transport = BufferedTransport(inner, WriteBuffer())
    release = transport.hold()
    assert release is not None
    transport.write(HEAD)
    transport.close()
    assert (inner.written, transport.is_closing()) == ([], True)
    transport.write(b"a")
    release()
    await asyncio.sleep(0)
    assert inner.written == [HEAD, b"closed"]


async def test_buffered_transport_close() -> None:
    """Closing sends pending data first."""
    inner = RecordedTransport()
    transport = BufferedTransport(inner, WriteBuffer())
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    assert inner.written == [HEAD, b"closed"]
    assert transport.is_closing()
