"""One connection of a client."""

import asyncio
import time

import httptools
import orjson

from maxgate.tools.loadtest.responder.script import Packet, Script, models
from maxgate.tools.loadtest.responder.stage import Answer, Note, Stage


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
