"""A stand-in for MAX that is never what is measured.

    python -m benchmarks.gateway.stand_in [--port 8080]

`POST /script` says how answers are to be: `tokens` in each, `gap_ms` between two tokens of a
stream (0: all at once), `delay_ms` before an answer that is not streamed. `GET /counts` says what
has happened: requests, chunks sent, answers whose client went away before their end (`aborted`),
streams open.
"""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import cast

import uvloop

from benchmarks.gateway import max_answers
from benchmarks.gateway.max_answers import Asked, Route
from benchmarks.gateway.pacing import PacingWheel

_TICK = 0.001
_ROUTES: dict[bytes, Route] = {b"/v1/chat/completions": "chat", b"/v1/completions": "completions"}
_HEADS_REMEMBERED = 4096


@dataclass(frozen=True)
class Script:
    """How answers are to be."""

    tokens: int = 32
    gap_ms: int = 0
    delay_ms: int = 0


@dataclass
class Counts:
    """What has happened since the start."""

    requests: int = 0
    chunks: int = 0
    aborted: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """What a request's head says that matters; -1 for a chunked body."""

    path: bytes
    length: int

    @classmethod
    def read(cls, head: bytes) -> "Head":
        """From the bytes before the empty line."""
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b":", 1) for line in lines[1:])
        chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
        return cls(
            lines[0].split(b" ")[1], -1 if chunked else int(headers.get(b"content-length", 0))
        )


@dataclass
class Engine:
    """What all connections share."""

    script: Script = Script()
    counts: Counts = field(default_factory=Counts)
    # The heads of one gateway's requests are nearly all the same.
    heads: dict[bytes, Head] = field(default_factory=dict)
    wheel: PacingWheel = field(default_factory=lambda: PacingWheel(1))
    turning: bool = False
    streams: set["PacedStream"] = field(default_factory=set)

    def head(self, data: bytes) -> Head:
        """Read, or remembered."""
        head = self.heads.get(data)
        if head is None:
            if len(self.heads) > _HEADS_REMEMBERED:
                self.heads.clear()
            head = self.heads[data] = Head.read(data)
        return head

    def follow(self, script: Script) -> None:
        """From now on; streams that have begun are cut off.

        A gateway that did not notice its clients leave would otherwise go on with them, and take
        the core from the next one.
        """
        for stream in list(self.streams):
            stream.cut()
        self.script = script
        self.wheel = PacingWheel(max(1, script.gap_ms))

    def pace(self, stream: "PacedStream") -> None:
        """Let a stream advance at the script's gap."""
        self.wheel.turn_to(self._tick())
        self.wheel.join(stream.advance)
        if not self.turning:
            self.turning = True
            self._turn()

    def _tick(self) -> int:
        return int(monotonic() / _TICK)

    def _turn(self) -> None:
        tick = self._tick()
        self.wheel.turn_to(tick)
        if self.wheel.streams:
            asyncio.get_running_loop().call_later((tick + 1) * _TICK - monotonic(), self._turn)
        else:
            self.turning = False


class PacedStream:
    """One answer that comes token by token; the first one at once."""

    def __init__(self, transport: asyncio.Transport, asked: Asked, engine: Engine) -> None:
        self._transport, self._asked, self._engine = transport, asked, engine
        self._tokens, self._number = engine.script.tokens, 0
        self.ended = False
        engine.counts.streams += 1
        engine.streams.add(self)
        transport.write(max_answers.STREAM_HEAD)

    def advance(self) -> bool:
        """Say the next token."""
        if self.ended:
            return False
        self._transport.write(max_answers.chunk(self._asked, self._number, self._tokens))
        self._engine.counts.chunks += 1
        self._number += 1
        if self._number == self._tokens:
            self._transport.write(max_answers.ending(self._asked, self._tokens))
            self.end()
        return not self.ended

    def end(self) -> None:
        """No more."""
        self.ended = True
        self._engine.counts.streams -= 1
        self._engine.streams.discard(self)

    def cut(self) -> None:
        """No more, in the middle."""
        self.end()
        self._transport.abort()


class Connection(asyncio.Protocol):
    """One connection of a gateway; one request at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unread = b""
        self._stream: PacedStream | None = None
        self._delayed: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio."""
        if self._stream is not None and not self._stream.ended:
            self._stream.end()
            self._engine.counts.aborted += 1
        if self._delayed is not None:
            self._delayed.cancel()
            self._engine.counts.aborted += 1

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._unread:
            data = self._unread + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._unread = data
            return
        head = self._engine.head(data[:end])
        complete = (
            data.endswith(max_answers.LAST_PIECE)
            if head.length < 0
            else len(data) - end - 4 >= head.length
        )
        if not complete:
            self._unread = data
            return
        self._unread = b""
        route = _ROUTES.get(head.path)
        if route is None:
            self._answer_the_rest(head.path, data[end + 4 :])
        else:
            self._generate(route, data)

    def _generate(self, route: Route, data: bytes) -> None:
        engine = self._engine
        engine.counts.requests += 1
        script = engine.script
        if b'"stream":true' in data or b'"stream": true' in data:
            asked = Asked(
                route,
                token_ids=b'"return_token_ids":true' in data,
                usage=b'"include_usage":true' in data or b'"include_usage": true' in data,
            )
            self._send_stream(asked, script)
        elif script.delay_ms:
            self._delayed = asyncio.get_running_loop().call_later(
                script.delay_ms / 1000, self._send_late, max_answers.whole(route, script.tokens)
            )
        else:
            self._transport.write(max_answers.whole(route, script.tokens))

    def _send_stream(self, asked: Asked, script: Script) -> None:
        if script.gap_ms == 0:
            self._engine.counts.chunks += script.tokens
            self._transport.write(max_answers.stream(asked, script.tokens))
            return
        self._stream = PacedStream(self._transport, asked, self._engine)
        if self._stream.advance():
            self._engine.pace(self._stream)

    def _send_late(self, answer: bytes) -> None:
        self._delayed = None
        self._transport.write(answer)

    def _answer_the_rest(self, path: bytes, body: bytes) -> None:
        if path == b"/v1/models":
            self._transport.write(max_answers.MODEL_LIST)
        elif path == b"/script":
            self._engine.follow(Script(**json.loads(body)))
            self._transport.write(max_answers.PLAIN_OK)
        elif path == b"/counts":
            counts = asdict(self._engine.counts)
            self._transport.write(max_answers.answer("application/json", counts))
        else:  # the health checks of routers
            self._transport.write(max_answers.PLAIN_OK)


async def serve(port: int) -> None:
    """Until it is killed."""
    engine = Engine()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
