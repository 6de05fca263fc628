"""A mock engine as a process of its own: it continues prompts, and fails on demand.

    python -m benchmarks.failover.mock_engine PORT [--first SECONDS] [--gap SECONDS]

Speaks MAX's `/v1/models` and `/v1/completions`. Token number n of every response has the id
1000 + n and the text ` n`. A prompt that ends with such ids is continued after them, and only if
they are the ids from 1000 on, without a gap: any other replay gives a wrong text.

`POST /fault` with one of the names in Fault applies to later requests. `GET /calls` returns when
requests arrived and whether they were served, in seconds of the system's monotonic clock.
"""

import argparse
import asyncio
import gc
import os
import time
from contextlib import suppress
from typing import Any, Final, Literal

import orjson
import uvloop

Fault = Literal["none", "500", "503", "hang", "slow", "slow-tokens", "reset", "close", "flap"]
MODEL: Final = "smollm2-135m-instruct"
FIRST_ID: Final = 1000
SLOWDOWN: Final = 10
FLAP_SECONDS: Final = 2.0
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class MockEngine:
    """Serves connections. `first` and `gap` are the seconds to the first and to each later token.

    `calls` has the time of each generation request and whether it was served.
    """

    def __init__(self, first: float, gap: float) -> None:
        self._first, self._gap = first, gap
        self.fault: Fault = "none"
        self.calls: list[tuple[float, bool]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one connection."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._serve_request(reader, writer):
                pass
        writer.close()

    async def _serve_request(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Serve one request; returns whether the connection stays open."""
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1]
        length = next(
            (
                int(line.partition(b":")[2])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            ),
            0,
        )
        body = await reader.readexactly(length)
        if path == b"/v1/models":
            models = [{"id": MODEL, "created": 1, "max_model_len": 8192}]
            _respond(writer, 200, {"object": "list", "data": models})
        elif path == b"/calls":
            _respond(writer, 200, {"calls": self.calls})
        elif path == b"/fault":
            self.fault = orjson.loads(body)
            _respond(writer, 200, {})
        else:
            return await self._serve_generation(orjson.loads(body), reader, writer)
        return True

    async def _serve_generation(
        self, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if body.get("user") == "maxgate-probe":
            _respond(writer, 400, {"error": {"message": "not supported"}})
            return True
        now, fault = time.monotonic(), self.fault
        if fault == "flap":
            fault = "500" if now % (2 * FLAP_SECONDS) < FLAP_SECONDS else "none"
        self.calls.append((now, fault == "none"))
        if fault in {"500", "503"}:
            _respond(writer, int(fault), {"error": {"message": "failed"}})
        elif fault == "hang":
            await reader.read()  # until the gateway gives up
            return False
        elif fault in {"reset", "close"}:
            if fault == "reset":
                writer.transport.abort()
            return False
        else:
            await self._generate(body, fault, writer)
        return True

    async def _generate(
        self, body: dict[str, Any], fault: Fault, writer: asyncio.StreamWriter
    ) -> None:
        tokens, done = body.get("max_tokens", 16), count_generated(body["prompt"])
        first = self._first * (SLOWDOWN if fault == "slow" else 1)
        gap = self._gap * (SLOWDOWN if fault in {"slow", "slow-tokens"} else 1)
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": tokens}
        numbers = range(done, done + tokens)
        if not body.get("stream"):
            await asyncio.sleep(first + gap * (tokens - 1))
            choice = {"index": 0, "text": "".join(f" {n}" for n in numbers)}
            _respond(
                writer, 200, {"choices": [{**choice, "finish_reason": "length"}], "usage": usage}
            )
            return
        writer.write(_STREAM_HEAD)
        loop = asyncio.get_running_loop()
        due = loop.time() + first
        for number in numbers:
            await asyncio.sleep(due - loop.time())
            due += gap
            choice = {
                "token_ids": [FIRST_ID + number],
                "index": 0,
                "text": f" {number}",
                "finish_reason": "length" if number == numbers[-1] else None,
            }
            _write_event(writer, orjson.dumps({"choices": [choice], "usage": None}))
            await writer.drain()  # raises once the gateway has gone
        _write_event(writer, orjson.dumps({"choices": [], "usage": usage}))
        _write_event(writer, b"[DONE]")
        writer.write(b"0\r\n\r\n")


def count_generated(prompt: list[int]) -> int:
    """Return how many ids of the mock the prompt ends with; 0 unless they begin with the first."""
    count = prompt[-1] - FIRST_ID + 1 if prompt else 0
    return count if count > 0 and prompt[-count:] == [*range(FIRST_ID, FIRST_ID + count)] else 0


def _write_event(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data))


def _respond(writer: asyncio.StreamWriter, status: int, fields: dict[str, Any]) -> None:
    body = orjson.dumps(fields)
    writer.write(
        b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (status, len(body), body)
    )


async def _serve(port: int, engine: MockEngine) -> None:
    server = await asyncio.start_server(engine.serve, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--first", type=float, default=0.03, help="seconds to the first token")
    parser.add_argument("--gap", type=float, default=0.005, help="seconds to each later token")
    options = parser.parse_args()
    os.setpgid(0, 0)  # the driver kills it, not a Ctrl-C
    gc.disable()
    uvloop.run(_serve(options.port, MockEngine(options.first, options.gap)))


if __name__ == "__main__":
    main()
