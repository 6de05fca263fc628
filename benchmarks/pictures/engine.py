"""A simulated engine, as a process of its own, whose batches become slower as they grow.

    python -m benchmarks.pictures.engine PORT [--max-batch 16] [--step-ms 6.5]

Every step adds a token to each request of the batch. It takes `--step-ms`, a millisecond per
request, and more for each request whose prompt it reads. Further requests wait, first come, first
served. The output has 60 to 100 % of `max_tokens`; the same requests have the same lengths.
"""

import argparse
import asyncio
import random
import sys
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL: Final = "llama-3.1-8b (simulated)"
_SECONDS_PER_REQUEST: Final = 0.001
_SECONDS_PER_PROMPT: Final = 0.012
_PROMPT_TOKENS: Final = 24


@dataclass(eq=False)
class _Running:
    """A request: the tokens still to come, and a token per step, or None after the last."""

    left: int
    is_new: bool = True
    steps: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)


class Engine:
    """The batch, and the requests that wait for it."""

    def __init__(self, max_batch: int, step_seconds: float) -> None:
        self._max_batch = max_batch
        self._step_seconds = step_seconds
        self._batch: list[_Running] = []
        self._waiting: deque[_Running] = deque()
        self._arrived = asyncio.Event()
        self._random = random.Random(1)

    async def generate(self, max_tokens: int) -> AsyncIterator[int]:
        """Yield the number of each token when its step ends."""
        tokens = max(1, round(max_tokens * self._random.uniform(0.6, 1)))
        request = _Running(tokens)
        self._waiting.append(request)
        self._arrived.set()
        try:
            for number in range(tokens):
                await request.steps.get()
                yield number
        finally:
            request.left = 0

    async def run(self) -> None:
        """Run steps until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._batch = [one for one in self._batch if one.left]
            while self._waiting and len(self._batch) < self._max_batch:
                self._batch.append(self._waiting.popleft())
            if not self._batch:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            began = loop.time()
            prompts = sum(one.is_new for one in self._batch)
            seconds = self._step_seconds + len(self._batch) * _SECONDS_PER_REQUEST
            await asyncio.sleep(seconds + prompts * _SECONDS_PER_PROMPT + began - loop.time())
            for one in self._batch:
                one.is_new, one.left = False, one.left - 1
                one.steps.put_nowait(True)


def build_app(max_batch: int, step_seconds: float) -> Starlette:
    """Build the server: `/v1/models` and streamed chat."""
    engine = Engine(max_batch, step_seconds)

    @asynccontextmanager
    async def run_steps(_: Starlette) -> AsyncIterator[None]:
        steps = asyncio.create_task(engine.run())
        yield
        steps.cancel()

    def list_models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def chat(request: Request) -> Response:
        body = await request.json()
        stream = _stream(engine, body.get("max_tokens") or 16)
        return StreamingResponse(stream, media_type="text/event-stream")

    return Starlette(
        lifespan=run_steps,
        routes=[
            Route("/v1/models", list_models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
        ],
    )


async def _stream(engine: Engine, max_tokens: int) -> AsyncIterator[bytes]:
    tokens = 0
    async for number in engine.generate(max_tokens):
        tokens += 1
        yield _encode(choices=[{"index": 0, "delta": {"content": f" {number}"}}])
    yield _encode(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": tokens}
    yield _encode(choices=[], usage=usage)
    yield b"data: [DONE]\n\n"


def _encode(**fields: Any) -> bytes:
    return b"data: " + orjson.dumps({"object": "chat.completion.chunk", **fields}) + b"\n\n"


def build_command(port: int, max_batch: int, step_ms: float) -> list[str]:
    """The command that starts an engine."""
    flags = [f"--max-batch={max_batch}", f"--step-ms={step_ms}"]
    return [sys.executable, "-m", "benchmarks.pictures.engine", str(port), *flags]


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--max-batch", type=int, default=16, help="requests at once (default: 16)")
    parser.add_argument("--step-ms", type=float, default=6.5, help="(default: 6.5)")
    options = parser.parse_args()
    app = build_app(options.max_batch, options.step_ms / 1000)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="error")


if __name__ == "__main__":
    main()
