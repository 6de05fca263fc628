"""A scripted engine on loopback: it speaks MAX's formats, and fails as it is told.

Token ids start at 1000, so that it recognizes its own tokens at the end of a prompt and goes on
after them, as MAX would.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import orjson

from maxgate.upstream.capabilities import PROBE_USER

FIRST_TOKEN_ID: Final = 1000
_CLOSE_TIMEOUT: Final = 2.0
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_ERROR: Final = b'{"error":{"message":"drill: internal error"}}'


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How an engine responds; times in seconds.

    A request that `hangs` gets no response. Streams are cut off after `cut_after` tokens, without
    the end of the response, unless they continue another one.
    """

    status: int = 200
    hangs: bool = False
    cut_after: int | None = None
    first: float = 0.02
    gap: float = 0.01
    tokens: int = 8


@dataclass(slots=True)
class Meter:
    """Requests at all engines together, now and at most."""

    running: int = 0
    most_running: int = 0


class ScriptedEngine:
    """An engine with one model; `stop` and `start` are its crash and restart."""

    def __init__(self, model: str, context_length: int, meter: Meter) -> None:
        self.behaviour = Behaviour()
        self.port = 0
        self._meter = meter
        self._model = model
        self._context_length = context_length
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._handlers: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The base URL; it stays the same after a restart."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, at the port of the time before."""
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", self.port, backlog=4096
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and reset those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Stop for good, and wait until no request is worked on."""
        await self.stop()
        if self._handlers:
            await asyncio.wait(self._handlers, timeout=_CLOSE_TIMEOUT)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.create_task(self._serve(reader, writer))
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while await self._respond(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1]
        lengths = [
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line[:15] == b"content-length:"
        ]
        content = await reader.readexactly(lengths[0]) if lengths else b""
        if path == b"/v1/models":
            _write_json(writer, 200, orjson.dumps(self._list_models()))
            return True
        body = orjson.loads(content or b"{}")
        if body.get("user") == PROBE_USER:
            _write_json(writer, 200, orjson.dumps(_build_response(path, body, 2)))
            return True
        meter = self._meter
        meter.running += 1
        meter.most_running = max(meter.most_running, meter.running)
        try:
            return await self._generate(path, body, reader, writer)
        finally:
            meter.running -= 1

    def _list_models(self) -> Mapping[str, Any]:
        model = {"id": self._model, "object": "model", "created": 1, "owned_by": ""}
        return {"object": "list", "data": [{**model, "max_model_len": self._context_length}]}

    async def _generate(
        self,
        path: bytes,
        body: Mapping[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        behaviour = self.behaviour
        if behaviour.status != 200:
            _write_json(writer, behaviour.status, _ERROR)
            return True
        if behaviour.hangs:
            await reader.read()  # until the gateway gives up
            return False
        if not body.get("stream"):
            await self._wait(behaviour.first, reader)
            _write_json(writer, 200, orjson.dumps(_build_response(path, body, behaviour.tokens)))
            return True
        writer.write(_STREAM_HEAD)
        done = _count_own_tokens(body)
        for number in range(done, behaviour.tokens):
            await self._wait(behaviour.first if number == done else behaviour.gap, reader)
            if number == behaviour.cut_after and not done:
                writer.transport.abort()
                return False
            is_last = number == behaviour.tokens - 1
            _write_event(writer, orjson.dumps(_build_chunk(path, body, number, is_last=is_last)))
            await writer.drain()
        usage = {"choices": [], "usage": _count_usage(behaviour.tokens), "model": body["model"]}
        _write_event(writer, orjson.dumps(usage))
        _write_event(writer, b"[DONE]")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _wait(self, seconds: float, reader: asyncio.StreamReader) -> None:
        """Wait; raises ConnectionResetError if the gateway has closed the connection."""
        await asyncio.sleep(seconds)
        if reader.at_eof() or reader.exception() is not None:
            raise ConnectionResetError


def _count_own_tokens(body: Mapping[str, Any]) -> int:
    """Return how many of the engine's own tokens the prompt ends with, as in a continuation."""
    prompt = body.get("prompt", body.get("prompt_tokens"))
    ids = prompt if isinstance(prompt, list) else []
    own = range(FIRST_TOKEN_ID, FIRST_TOKEN_ID + len(ids))
    return next((n for n in range(len(ids), 0, -1) if ids[-n:] == list(own[:n])), 0)


def _count_usage(tokens: int) -> Mapping[str, int]:
    return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}


def _build_response(path: bytes, body: Mapping[str, Any], tokens: int) -> Mapping[str, Any]:
    text = "".join(f" word{number}" for number in range(tokens))
    ids = [FIRST_TOKEN_ID + number for number in range(tokens)]
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "token_ids": ids}
    if path.endswith(b"/chat/completions"):
        choice["message"] = {"role": "assistant", "content": text}
    else:
        choice["text"] = text
    return {"id": "0", "choices": [choice], "usage": _count_usage(tokens), "model": body["model"]}


def _build_chunk(
    path: bytes, body: Mapping[str, Any], number: int, *, is_last: bool
) -> Mapping[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if is_last else None}
    if path.endswith(b"/chat/completions"):
        choice["delta"] = {"role": "assistant", "content": f" word{number}"}
    else:
        choice["text"] = f" word{number}"
    if body.get("return_token_ids"):
        choice["token_ids"] = [FIRST_TOKEN_ID + number]
        if number == 0:
            choice["prompt_token_ids"] = body.get("prompt", [1, 2, 3])
    return {"id": "0", "choices": [choice], "usage": None, "model": body["model"]}


def _write_event(writer: asyncio.StreamWriter, data: bytes) -> None:
    event = b"data: %b\n\n" % data
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


def _write_json(writer: asyncio.StreamWriter, status: int, content: bytes) -> None:
    writer.write(
        b"HTTP/1.1 %d Drill\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (status, len(content), content)
    )
