"""Clients over TLS that measure streams, and attackers for a process of their own."""

import asyncio
import json
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError

from tests.fakes.nginx_server import NginxServer

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "Hello"}]}
_DATA = json.dumps({**BODY, "stream": True}).encode()
_HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
STREAM_REQUEST = b"%bContent-Length: %d\r\n\r\n%b" % (_HEAD, len(_DATA), _DATA)
SLOW_HEADERS = _HEAD + b"X-A: "
SLOW_BODY = _HEAD + b"Content-Length: 100000\r\n\r\n"
ATTACKER = "127.0.0.2"
"""Address of slow clients, so that limits per address are not those of the others."""


def read_milliseconds(values: list[float], percent: int) -> float:
    """Return a percentile of seconds in milliseconds."""
    ordered = sorted(values)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1000


@dataclass
class StreamTimes:
    """Number of complete streams, seconds to their first event, and between their events."""

    complete: int = 0
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)

    def add(self, began: float, arrivals: list[float], content: bytes) -> None:
        """Add a stream by the times at which parts of it arrived."""
        self.complete += content.rstrip().endswith(b"data: [DONE]") and b'"error"' not in content
        if arrivals:
            self.first.append(arrivals[0] - began)
            self.gaps += [later - earlier for earlier, later in pairwise(arrivals)]


async def measure_streams(
    host: str, port: int, count: int, tls: ssl.SSLContext | None
) -> StreamTimes:
    """Run streams at once, each on a connection of its own."""
    times = StreamTimes()

    async def stream() -> None:
        reader, writer = await asyncio.open_connection(host, port, ssl=tls)
        began, arrivals, content = time.perf_counter(), list[float](), b""
        writer.write(STREAM_REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        while size := int(await reader.readline(), 16):
            content += (await reader.readexactly(size + 2))[:-2]
            arrivals.append(time.perf_counter())
        times.add(began, arrivals, content)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    await asyncio.gather(*(stream() for _ in range(count)))
    return times


async def measure_http2_streams(nginx: NginxServer, count: int) -> StreamTimes:
    """Run streams at once on one connection of HTTP/2."""
    times = StreamTimes()
    async with httpx.AsyncClient(
        base_url=nginx.url, verify=nginx.tls, http2=True, timeout=60
    ) as client:

        async def stream() -> None:
            began, arrivals, content = time.perf_counter(), list[float](), b""
            body = {**BODY, "stream": True}
            async with client.stream("POST", CHAT, json=body) as response:
                assert response.http_version == "HTTP/2"
                async for part in response.aiter_raw():
                    content += part
                    arrivals.append(time.perf_counter())
            times.add(began, arrivals, content)

        await client.get("/v1/models")  # so that all streams find the connection open
        await asyncio.gather(*(stream() for _ in range(count)))
    return times


def attack_slowly(port: int, ca: Path, headers: int, bodies: int) -> tuple[float, float]:
    """Send slow headers and bodies; returns the most seconds that one of each was connected."""

    async def attack() -> list[float]:
        tls = create_tls(ca)
        begins = [SLOW_HEADERS] * headers + [SLOW_BODY] * bodies
        return await asyncio.gather(*(_send_slowly(port, tls, begin, 3) for begin in begins))

    seconds = asyncio.run(attack())
    return max(seconds[:headers]), max(seconds[headers:])


async def _send_slowly(port: int, tls: ssl.SSLContext, begin: bytes, pause: float) -> float:
    """Send a byte after each pause until the connection is closed; returns the seconds."""
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, local_addr=(ATTACKER, 0)
        )
    except OSError:  # the handshake was too slow
        return time.perf_counter() - began
    reading = asyncio.create_task(reader.read())
    writer.write(begin)
    while not reading.done():
        await asyncio.wait([reading], timeout=pause)
        with suppress(OSError):
            writer.write(b"a")
    reading.exception()  # a reset is fine
    writer.close()
    return time.perf_counter() - began


def attack_by_resets(port: int, ca: Path, connections: int, streams: int) -> int:
    """Reset streams on several connections of HTTP/2 at once; returns their number."""

    async def attack() -> int:
        tls = create_tls(ca)
        tls.set_alpn_protocols(["h2"])
        return sum(
            await asyncio.gather(*(_reset_rapidly(port, tls, streams) for _ in range(connections)))
        )

    return asyncio.run(attack())


async def _reset_rapidly(port: int, tls: ssl.SSLContext, count: int) -> int:
    """Open and cancel streams until the connection is closed; returns their number."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, local_addr=(ATTACKER, 0)
    )
    connection = H2Connection(H2Configuration(header_encoding=None))
    connection.initiate_connection()
    headers = {":method": "GET", ":path": "/v1/models", ":scheme": "https"}
    sent = 0
    with suppress(OSError, ProtocolError):
        while sent < count and not reader.at_eof():
            stream = connection.get_next_available_stream_id()
            named = [*headers.items(), (":authority", "localhost")]
            connection.send_headers(stream, named, end_stream=True)
            connection.reset_stream(stream)
            writer.write(connection.data_to_send())
            sent += 1
            if sent % 50 == 0:
                await writer.drain()
                await asyncio.sleep(0)
                if writer.is_closing():
                    break
        while data := await asyncio.wait_for(reader.read(65536), 5):
            connection.receive_data(data)
    writer.close()
    return sent


def create_tls(ca: Path) -> ssl.SSLContext:
    """Create a context for HTTP/1.1 that trusts this CA."""
    return ssl.create_default_context(cafile=str(ca))
