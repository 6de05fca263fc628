"""A mock engine with a fixed batch, as a process of its own.

    python -m benchmarks.admission.batch_engine PORT [--slots 4] [--token-seconds 0.025]

Responds like MAX. Each request holds one of the slots for `--token-seconds` per token; its number
of tokens is `max_tokens`, or 8. Its prompt takes no time, and has the length of its token ids.
Further requests wait, first come, first served. Requests whose client disconnects are forgotten at
once. `/metrics` has MAX's gauges of running and queued requests, `/counts` the fields of Counts.
"""

import argparse
import asyncio
import gc
import json
import os
from dataclasses import asdict, dataclass
from typing import Final, cast

import uvloop
from typing_extensions import override

from benchmarks.gateway import max_responses
from benchmarks.gateway.max_responses import ResponseOptions, Route, encode_response
from benchmarks.gateway.stand_in import Head

TOKENS: Final = 8
_ROUTES: Final[dict[bytes, Route]] = {
    b"/v1/chat/completions": "chat",
    b"/v1/completions": "completions",
}


@dataclass
class Counts:
    """Requests that were served, that ended early in a slot, and the most that waited at once."""

    served: int = 0
    wasted: int = 0
    longest_queue: int = 0


class BatchEngine:
    """The slots of the engine, shared by all connections."""

    def __init__(self, slots: int, token_seconds: float) -> None:
        self.token_seconds = token_seconds
        self.slots = asyncio.Semaphore(slots)
        self.counts = Counts()
        self.running = 0
        self.queued = 0

    def format_metrics(self) -> str:
        """Return the gauges in Prometheus's text format; requests that wait count as running."""
        return (
            f"maxserve_num_requests_running {self.running + self.queued}\n"
            f"maxserve_num_requests_queued {self.queued}\n"
        )

    async def wait(self) -> None:
        """Wait for a slot and take it."""
        self.queued += 1
        self.counts.longest_queue = max(self.counts.longest_queue, self.queued)
        try:
            await self.slots.acquire()
        finally:
            self.queued -= 1
        self.running += 1


class Connection(asyncio.Protocol):
    """A server connection; handles one request at a time, without pipelining."""

    def __init__(self, engine: BatchEngine) -> None:
        self._engine = engine
        self._unread = b""
        self._work: asyncio.Task[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._work is not None:
            self._work.cancel()

    @override
    def data_received(self, data: bytes) -> None:
        self._unread += data
        end = self._unread.find(b"\r\n\r\n")
        if end < 0:
            return
        head, body = Head.parse(self._unread[:end]), self._unread[end + 4 :]
        if not body.endswith(b"0\r\n\r\n") if head.length < 0 else len(body) < head.length:
            return
        self._unread = b""
        engine, route = self._engine, _ROUTES.get(head.path)
        if route is not None:
            start = max(body.find(b"{"), 0)
            fields = json.loads(body[start : body.rfind(b"}") + 1])
            self._work = asyncio.create_task(self._generate(route, fields))
        elif head.path == b"/metrics":
            self._transport.write(encode_response("text/plain", engine.format_metrics()))
        elif head.path == b"/counts":
            self._transport.write(encode_response("application/json", asdict(engine.counts)))
        elif head.path == b"/v1/models":
            self._transport.write(max_responses.MODEL_LIST)
        else:
            self._transport.write(max_responses.PLAIN_OK)

    async def _generate(self, route: Route, fields: dict[str, object]) -> None:
        engine, tokens = self._engine, fields.get("max_tokens") or TOKENS
        assert isinstance(tokens, int)
        ids = fields.get("prompt_tokens", fields.get("prompt"))
        prompt_tokens = len(ids) if isinstance(ids, list) else max_responses.PROMPT_TOKENS
        await engine.wait()
        try:
            if fields.get("stream"):
                with_ids, usage = bool(fields.get("return_token_ids")), "stream_options" in fields
                options = ResponseOptions(route, with_ids, usage)
                await self._stream(options, tokens, prompt_tokens)
            else:
                await asyncio.sleep(tokens * engine.token_seconds)
                response = max_responses.encode_generation(route, tokens, prompt_tokens)
                self._transport.write(response)
        except asyncio.CancelledError:
            engine.counts.wasted += 1
            raise
        finally:
            engine.running -= 1
            engine.slots.release()
        engine.counts.served += 1

    async def _stream(self, options: ResponseOptions, tokens: int, prompt_tokens: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._transport.write(max_responses.STREAM_HEAD)
        for number in range(tokens):
            await asyncio.sleep(began + (number + 1) * self._engine.token_seconds - loop.time())
            self._transport.write(max_responses.encode_chunk(options, number, tokens))
        self._transport.write(max_responses.encode_end(options, tokens, prompt_tokens))


async def serve(port: int, slots: int, token_seconds: float) -> None:
    """Serve until cancelled."""
    engine, loop = BatchEngine(slots, token_seconds), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine), "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--slots", type=int, default=4, help="requests at once (default: 4)")
    parser.add_argument("--token-seconds", type=float, default=0.025, help="(default: 0.025)")
    options = parser.parse_args()
    gc.disable()
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # the driver kills it, not a Ctrl-C
    uvloop.run(serve(options.port, options.slots, options.token_seconds))


if __name__ == "__main__":
    main()
