"""A stand-in for MAX that is fast enough never to limit a measurement.

    python -m benchmarks.gateway.stand_in [--host 127.0.0.1] [--port 8080] [--script JSON]

`POST /script` sets the shape and timing of responses (see Script). `GET /counts` returns what has
happened since the start (see Counts).
"""

import argparse
import asyncio
import json
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop
from typing_extensions import override

from benchmarks.gateway import max_responses
from benchmarks.gateway.max_responses import ResponseOptions, Route
from benchmarks.gateway.pacing import Pacer

_ROUTES: dict[bytes, Route] = {b"/v1/chat/completions": "chat", b"/v1/completions": "completions"}
_MAX_CACHED_HEADS = 4096


@dataclass(frozen=True)
class Script:
    """Tokens per response, and milliseconds between tokens and before unstreamed responses.

    With a gap of 0 a stream is written at once.
    """

    tokens: int = 32
    gap_ms: int = 0
    delay_ms: int = 0


@dataclass
class Counts:
    """Requests, chunks sent, responses aborted by the client, and open streams."""

    requests: int = 0
    chunks: int = 0
    aborted: int = 0
    streams: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """Path and body length of a request; the length is -1 for a chunked body."""

    path: bytes
    length: int

    @classmethod
    def parse(cls, head: bytes) -> "Head":
        """Parse the bytes before the empty line."""
        lines = head.lower().split(b"\r\n")
        headers = dict(line.split(b":", 1) for line in lines[1:])
        chunked = b"chunked" in headers.get(b"transfer-encoding", b"")
        length = -1 if chunked else int(headers.get(b"content-length", 0))
        return cls(lines[0].split(b" ")[1], length)


@dataclass
class Engine:
    """State shared by all connections."""

    script: Script = Script()
    counts: Counts = field(default_factory=Counts)
    pacer: Pacer = field(default_factory=lambda: Pacer(1))
    streams: set["PacedStream"] = field(default_factory=set)
    heads: dict[bytes, Head] = field(default_factory=dict)

    def parse_head(self, data: bytes) -> Head:
        """Parse a head, or look it up: nearly all requests of a gateway have the same one."""
        head = self.heads.get(data)
        if head is None:
            if len(self.heads) > _MAX_CACHED_HEADS:
                self.heads.clear()
            head = self.heads[data] = Head.parse(data)
        return head

    def set_script(self, script: Script) -> None:
        """Use a script for new requests, and abort the streams in progress.

        A gateway that ignores client disconnects would otherwise keep reading them and take CPU
        from the gateway that is measured next.
        """
        for stream in list(self.streams):
            stream.abort()
        self.script = script
        self.pacer = Pacer(script.gap_ms)


class PacedStream:
    """A streamed response whose tokens are sent one at a time, the first one at once."""

    def __init__(
        self, transport: asyncio.Transport, options: ResponseOptions, engine: Engine
    ) -> None:
        self._transport, self._options, self._engine = transport, options, engine
        self._tokens, self._number = engine.script.tokens, 0
        self.ended = False
        engine.counts.streams += 1
        engine.streams.add(self)
        transport.write(max_responses.STREAM_HEAD)

    def advance(self) -> bool:
        """Send the next token; returns whether there are more."""
        if self.ended:
            return False
        chunk = max_responses.encode_chunk(self._options, self._number, self._tokens)
        self._transport.write(chunk)
        self._engine.counts.chunks += 1
        self._number += 1
        if self._number == self._tokens:
            self._transport.write(max_responses.encode_end(self._options, self._tokens))
            self.end()
        return not self.ended

    def end(self) -> None:
        """Stop sending."""
        self.ended = True
        self._engine.counts.streams -= 1
        self._engine.streams.discard(self)

    def abort(self) -> None:
        """Close the connection before the response is complete."""
        self.end()
        self._transport.abort()


class Connection(asyncio.Protocol):
    """A server connection; handles one request at a time, without pipelining."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unread = b""
        self._stream: PacedStream | None = None
        self._delayed: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None and not self._stream.ended:
            self._stream.end()
            self._engine.counts.aborted += 1
        if self._delayed is not None:
            self._delayed.cancel()
            self._engine.counts.aborted += 1

    @override
    def data_received(self, data: bytes) -> None:
        if self._unread:
            data = self._unread + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._unread = data
            return
        head = self._engine.parse_head(data[:end])
        is_complete = (
            data.endswith(max_responses.LAST_HTTP_CHUNK)
            if head.length < 0
            else len(data) - end - 4 >= head.length
        )
        if not is_complete:
            self._unread = data
            return
        self._unread = b""
        route = _ROUTES.get(head.path)
        if route is None:
            self._serve_other_route(head.path, data[end + 4 :])
        else:
            self._generate(route, data)

    def _generate(self, route: Route, data: bytes) -> None:
        engine, script = self._engine, self._engine.script
        engine.counts.requests += 1
        if b'"stream":true' in data or b'"stream": true' in data:
            options = ResponseOptions(
                route,
                token_ids=b'"return_token_ids":true' in data,
                usage=b'"include_usage":true' in data or b'"include_usage": true' in data,
            )
            self._send_stream(options, script)
            return
        response = max_responses.encode_generation(route, script.tokens)
        if script.delay_ms:
            loop = asyncio.get_running_loop()
            self._delayed = loop.call_later(script.delay_ms / 1000, self._send_delayed, response)
        else:
            self._transport.write(response)

    def _send_stream(self, options: ResponseOptions, script: Script) -> None:
        if script.gap_ms == 0:
            self._engine.counts.chunks += script.tokens
            self._transport.write(max_responses.encode_stream(options, script.tokens))
            return
        self._stream = PacedStream(self._transport, options, self._engine)
        if self._stream.advance():
            self._engine.pacer.add(self._stream.advance)

    def _send_delayed(self, response: bytes) -> None:
        self._delayed = None
        self._transport.write(response)

    def _serve_other_route(self, path: bytes, body: bytes) -> None:
        if path == b"/v1/models":
            response = max_responses.MODEL_LIST
        elif path == b"/script":
            self._engine.set_script(Script(**json.loads(body)))
            response = max_responses.PLAIN_OK
        elif path == b"/counts":
            counts = asdict(self._engine.counts)
            response = max_responses.encode_response("application/json", counts)
        else:  # health checks of other gateways
            response = max_responses.PLAIN_OK
        self._transport.write(response)


async def serve(host: str, port: int, script: Script) -> None:
    """Serve until the process ends."""
    engine = Engine()
    engine.set_script(script)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine), host, port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gateway.stand_in", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port (default: 8080)")
    parser.add_argument("--script", default="{}", metavar="JSON", help="shape of responses")
    options = parser.parse_args()
    uvloop.run(serve(options.host, options.port, Script(**json.loads(options.script))))


if __name__ == "__main__":
    main()
