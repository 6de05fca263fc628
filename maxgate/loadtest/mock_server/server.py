"""`python -m maxgate.loadtest.mock_server.server SCRIPT`: prints its port, serves until killed.

It also ends when its standard input does, so that nothing is left when who started it dies.
`GET /notes` gives what was noted since the last time and forgets it; `PUT /script` changes the
script for the requests after it.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httptools
import httpx
import orjson
import uvloop

from maxgate.loadtest.mock_server.player import Answer, Note, Stage
from maxgate.loadtest.mock_server.script import Packet, Script, models


@asynccontextmanager
async def responding(script: Script, *, within: Sequence[str] = ()) -> AsyncIterator[str]:
    """Its address while it is up; `within` is a command that starts another, such as taskset."""
    process = await asyncio.create_subprocess_exec(
        *within,
        sys.executable,
        "-m",
        "maxgate.loadtest.mock_server.server",
        script.model_dump_json(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None  # noqa: S101  # it was asked for
    assert process.stdout is not None  # noqa: S101  # see above
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        await process.wait()


@dataclass(frozen=True)
class ServerTimestamps:
    """When the scripted server got a request and when it wrote each piece."""

    received: float
    writes: Sequence[float]


async def notes_of(url: str) -> dict[tuple[int, int], ServerTimestamps]:
    """By index and turn; it forgets them."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        noted = (await client.get(f"{url}/notes")).json()
    found = {}
    for key, received, writes in noted:
        index, turn = key.rsplit("-", 2)[-2:]
        found[int(index), int(turn)] = ServerTimestamps(received, writes)
    return found


class Speaker(asyncio.Protocol):
    """Reads requests and has them answered by the stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._reset()

    def _reset(self) -> None:
        self._url, self._key, self._body = b"", b"", b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._stage.freeze_if_due()
        self._received = time.perf_counter()
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """See httptools."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if name == b"x-request-id":
            self._key = value

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._body += body

    def on_message_complete(self) -> None:
        """See httptools."""
        transport, stage = self._transport, self._stage
        if transport is None:
            return
        if self._url.endswith(b"/completions"):
            self._complete(transport, stage)
        elif self._url == b"/notes":
            transport.write(_notes(stage))
        elif self._url == b"/script":
            stage.play(Script.model_validate_json(self._body))
            transport.write(models())
        else:
            transport.write(models())
        self._reset()

    def _complete(self, transport: asyncio.Transport, stage: Stage) -> None:
        note = Note(self._key.decode(), self._received)
        stage.notes.append(note)
        index = self._key.rsplit(b"-", 2)[-2] if self._key.count(b"-") > 1 else b"0"
        if stage.script.refuse and stage.script.refuses(int(index)):
            transport.write(stage.refusal)
        elif b'"stream":true' in self._body or b'"stream": true' in self._body:
            Answer(stage, transport, stage.packets, note).start()
        else:
            last = stage.script.output_times()[-1]
            said = [Packet(last, stage.whole, 1)]
            Answer(stage, transport, said, note).start()


def _notes(stage: Stage) -> bytes:
    notes, stage.notes = stage.notes, []
    body = orjson.dumps([(note.key, note.received, note.writes) for note in notes])
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def serve(script: Script) -> None:
    """Serve on a free port, whose number is printed, until the input ends."""
    loop = asyncio.get_running_loop()
    stage = Stage(script)
    stage.bind(loop)
    server = await loop.create_server(lambda: Speaker(stage), "127.0.0.1", 0, backlog=4096)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    gc.freeze()
    ended = loop.create_future()
    loop.add_reader(0, _read_input, ended)
    async with server:
        await ended


def _read_input(ended: "asyncio.Future[None]") -> None:
    if not os.read(0, 4096) and not ended.done():
        ended.set_result(None)


def main() -> None:
    """Serve the script of the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends with its input
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(serve(Script.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "{}")))


if __name__ == "__main__":
    main()
