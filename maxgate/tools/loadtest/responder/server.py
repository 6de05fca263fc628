"""`python -m maxgate.tools.loadtest.responder.server SCRIPT`: prints its port, serves until killed.

It also ends when its standard input does, so that nothing is left when who started it dies.
`GET /notes` gives what was noted since the last time and forgets it; `PUT /script` changes the
script for the requests after it.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from heapq import heappop, heappush

import httptools
import orjson
import uvloop

from maxgate.tools.loadtest.client.alarm import Alarm, alarm
from maxgate.tools.loadtest.client.immediate import ImmediateWriter
from maxgate.tools.loadtest.responder.script import (
    Packet,
    Script,
    models,
    packets,
    refusal,
    whole_answer,
)


class Note:
    """When a request came and when each of its outputs was written; monotonic seconds."""

    __slots__ = ("key", "received", "writes")

    def __init__(self, key: str, received: float) -> None:
        self.key = key
        self.received = received
        self.writes: list[float] = []


class Stage:
    """The script, and everything that is still to be said, in order of time."""

    def __init__(self, script: Script) -> None:
        self.notes: list[Note] = []
        self._queue: list[tuple[float, int, Answer]] = []
        self._sequence = 0
        self._alarm: Alarm | None = None
        self._began: float | None = None
        self._ringing = False
        self.play(script)

    def play(self, script: Script) -> None:
        """Follow this script from now on."""
        self.script, self.packets = script, packets(script)
        self.whole, self.refusal = whole_answer(script), refusal()
        self._frozen = script.freeze_after is None
        self._began = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this loop's time."""
        self._alarm = alarm(loop, self._ring, time.perf_counter)

    def later(self, when: float, answer: "Answer") -> None:
        """Call the answer at this time."""
        self._sequence += 1
        heappush(self._queue, (when, self._sequence, answer))
        if self._queue[0][2] is answer and self._alarm is not None and not self._ringing:
            self._alarm.set(when)

    def freeze_if_due(self) -> None:
        """Stand still, once, when the script says so; `GET` and `PUT` included."""
        now = time.perf_counter()
        if self._began is None:
            self._began = now
        if not self._frozen and now - self._began >= (self.script.freeze_after or 0.0):
            self._frozen = True
            threading.Event().wait(self.script.freeze)

    def _ring(self) -> None:
        self.freeze_if_due()
        queue = self._queue
        self._ringing = True
        while queue and queue[0][0] <= time.perf_counter():
            heappop(queue)[2].say()
        self._ringing = False
        if queue and self._alarm is not None:
            self._alarm.set(queue[0][0])


class Answer:
    """One stream that is being said."""

    __slots__ = ("_next", "_note", "_packets", "_stage", "_transport", "_writer")

    def __init__(
        self, stage: Stage, transport: asyncio.Transport, said: list[Packet], note: Note
    ) -> None:
        self._stage, self._transport, self._note = stage, transport, note
        self._writer = ImmediateWriter(transport)
        self._packets, self._next = said, 0

    def start(self) -> None:
        """Wait for the first packet's time, or say it at once."""
        self._stage.later(self._note.received + self._packets[0].after, self)

    def say(self) -> None:
        """Say what is due."""
        packet = self._packets[self._next]
        if self._transport.is_closing():
            return
        writes = self._note.writes
        for _ in range(packet.outputs):
            writes.append(time.perf_counter())  # mostly one
        self._writer.write(packet.data)
        self._next += 1
        if self._next < len(self._packets):
            self._stage.later(self._note.received + self._packets[self._next].after, self)


class Speaker(asyncio.Protocol):
    """One connection of a client."""

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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(serve(Script.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "{}")))


if __name__ == "__main__":
    main()
