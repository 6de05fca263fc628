"""A proxy between the gateway and an engine that records token ids, and may cut responses."""

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import orjson

_IDS: Final = re.compile(rb'"token_ids":\[([\d,]+)\]')
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_MAX_READ: Final = 65536
PROBE_USER: Final = "maxgate-probe"


@dataclass
class Call:
    """The ids of a prompt, the bytes of the response, and when the request arrived.

    The response is cut after `max_tokens` tokens, None means never.
    """

    prompt: list[int]
    max_tokens: int | None = None
    response: bytearray = field(default_factory=bytearray)
    at: float = field(default_factory=time.monotonic)

    @property
    def ids(self) -> list[int]:
        """Ids of the generated tokens; MAX writes each event at once."""
        return [int(n) for match in _IDS.findall(self.response) for n in match.split(b",")]


class RecordingProxy:
    """Passes bytes on in both directions; `calls` are the generation calls so far.

    With `cuts`, the first calls of all streams are cut at a random token below that number.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._random = random.Random(0)
        self.calls: list[Call] = []
        self.cuts: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of the gateway."""
        try:
            to_engine = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        except OSError:
            writer.transport.abort()
            return
        current: list[Call] = []
        directions = {
            asyncio.create_task(self._pass_requests(reader, to_engine[1], current)),
            asyncio.create_task(_pass_responses(to_engine[0], writer, current)),
        }
        try:
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for each in (writer, to_engine[1]):
                each.close()  # what has been written is still sent

    async def _pass_requests(
        self, reader: asyncio.StreamReader, engine: asyncio.StreamWriter, current: list[Call]
    ) -> None:
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                current.clear()
                if b" /v1/completions " in head:
                    fields = orjson.loads(body)
                    if fields.get("user") != PROBE_USER:
                        current.append(Call(fields["prompt"], self._cut(fields["max_tokens"])))
                        self.calls += current
                engine.write(head + body)

    def _cut(self, max_tokens: int) -> int | None:
        # Continued calls have fewer tokens left.
        return self._random.randrange(1, max_tokens) if max_tokens == self.cuts else None


async def _pass_responses(
    reader: asyncio.StreamReader, gateway: asyncio.StreamWriter, current: list[Call]
) -> None:
    with suppress(OSError):
        while data := await reader.read(_MAX_READ):
            for call in current:
                call.response += data
            gateway.write(data)
            if any(c.max_tokens is not None and len(c.ids) >= c.max_tokens for c in current):
                return


@asynccontextmanager
async def record(port: int) -> AsyncIterator[tuple[str, RecordingProxy]]:
    """Run a proxy for the engine at this port; yields its URL."""
    proxy, connections = RecordingProxy(port), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(task := asyncio.create_task(proxy.serve(reader, writer)))
        task.add_done_callback(connections.discard)

    # Given a coroutine, Python 3.11 prints a traceback for each connection that is cancelled.
    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=2**24)
    async with server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", proxy
        finally:
            for task in connections:
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
