"""Measure the CPU time of failure handling in the upstream layer.

    python -m benchmarks.failover.cost [--rounds 60] [--request-us 150] [--json]

Calls an engine without sockets, in this process: directly, by the upstream layer with one engine,
and with three. The direct call sends the request and parses the response, without choice of a
replica, breaker, retry budget or deadlines. Values are the best of the rounds, which alternate
between the cases. `--request-us` is the CPU time of a whole chat request, of which shares are
given; `python -m benchmarks.before_after` measures it.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from itertools import repeat
from typing import Any

from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.http1.connection import EngineResponse
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.max_api.generation import (
    ChunkReader,
    parse_response,
    select_path,
    serialize_request,
)
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import ContinuationSettings, FailoverSettings, UpstreamSettings
from maxgate.upstream.token_timeout import TokenTimeout
from tests.fakes.requests import generation_request

MODEL = "small-on-max"
TOKENS = 200
REQUESTS = 300  # plain ones in a round
STREAMS = 5
PROMPT = TokenIds.of([1, 2, 3])
PLAIN = (
    b'{"id":"x","choices":[{"index":0,"text":"Paris","finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)
LAST = [
    b'data: {"id":"x","choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n' % TOKENS,
    b"data: [DONE]\n\n",
]
Call = Callable[[GenerationRequest], AsyncIterator[Chunk]]


def build_stream(*, with_ids: bool) -> list[bytes]:
    """Return the events of a stream as MAX sends them."""
    events = []
    for number in range(TOKENS):
        ids = b'"token_ids":[%d],' % (1000 + number) if with_ids else b""
        events.append(
            b'data: {"id":"x","created":1,"model":"m","choices":[{%b"index":0,"text":" a%d",'
            b'"logprobs":null,"finish_reason":null}],"object":"text_completion","usage":null}\n\n'
            % (ids, number)
        )
    return [*events, *LAST]


class Body:
    """The body of a response whose pieces have all arrived."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = iter(pieces)
        self._loop = asyncio.get_running_loop()
        self.read_timeout = 1.0

    def __anext__(self) -> asyncio.Future[bytes]:
        """Return the next piece."""
        future: asyncio.Future[bytes] = self._loop.create_future()
        try:
            future.set_result(next(self._pieces))
        except StopIteration:
            future.set_exception(StopAsyncIteration())
        return future

    async def aclose(self) -> None:
        """Do nothing."""

    def interrupt(self) -> None:
        """Do nothing."""


class Client:
    """Responds with `pieces`, at once."""

    def __init__(self) -> None:
        self.pieces: Sequence[bytes] = [PLAIN]

    async def send(self, request: EngineRequest) -> EngineResponse:
        """Return a response."""
        del request
        return EngineResponse(200, [], Body(self.pieces))


class Direct:
    """Sends requests to one engine and parses the responses, and nothing else."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._settings = UpstreamSettings()

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        """Yield the chunks of a response."""
        settings = self._settings
        path = select_path(request)
        engine_request = EngineRequest(
            resolve_route("http://engine0", path),
            serialize_request(request),
            *(settings.connect_timeout, settings.first_token_timeout, settings.idle_timeout),
            request.context,
        )
        async with await self._client.send(engine_request) as response:
            if not request.stream:
                deadline = asyncio.get_running_loop().time() + settings.response_timeout
                data = await response.read(settings.max_response_bytes, deadline)
                yield parse_response(data, request)
                return
            timeout, reader = TokenTimeout(settings), ChunkReader(request)
            timeout.start(response)
            with reader:
                async for data in response:
                    for chunk in reader.feed(data):
                        yield chunk
                    timeout.after_read(response, reader)


def build_upstream(client: Client, engines: int, *, continued: bool) -> UpstreamBackend:
    """Build the upstream layer with this number of healthy engines."""
    replicas = [Replica(f"http://engine{number}") for number in range(engines)]
    for replica in replicas:
        replica.mark_healthy({MODEL: EngineModel(MODEL, 1, 8192)})
    failover = FailoverSettings(
        continuation=ContinuationSettings() if continued else ContinuationSettings(attempts=0)
    )
    sender: Any = client
    return UpstreamBackend(ReplicaPool(replicas, sender, UpstreamSettings(), failover))


async def measure(call: Call, requests: int, *, stream: bool) -> float:
    """Return the CPU time of one request in microseconds."""
    batch = [generation_request(prompt=PROMPT, stream=stream) for _ in repeat(None, requests)]
    began = time.process_time()
    for request in batch:
        chunks: Any = call(request)
        async with aclosing(chunks):
            async for _ in chunks:
                pass
    return (time.process_time() - began) / requests * 1e6


async def measure_all(rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds per plain request and per chunk in each case."""
    client = Client()
    streams = [build_stream(with_ids=with_ids) for with_ids in (False, True)]
    cases: dict[str, tuple[Call, Sequence[bytes]]] = {
        "direct": (Direct(client).stream, streams[0]),
        "1 engine": (build_upstream(client, 1, continued=False).stream, streams[0]),
        "3 engines": (build_upstream(client, 3, continued=False).stream, streams[0]),
        "direct, ids": (Direct(client).stream, streams[1]),
        "1 engine, ids": (build_upstream(client, 1, continued=True).stream, streams[1]),
        "3 engines, ids": (build_upstream(client, 3, continued=True).stream, streams[1]),
    }
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for name, (call, stream) in cases.items():
            client.pieces = [PLAIN]
            request_us = await measure(call, REQUESTS, stream=False)
            client.pieces = stream
            chunk_us = await measure(call, STREAMS, stream=True) / len(stream)
            before = best.setdefault(name, {"request_us": request_us, "chunk_us": chunk_us})
            before["request_us"] = min(before["request_us"], request_us)
            before["chunk_us"] = min(before["chunk_us"], chunk_us)
    return best


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60, help="number of rounds (default: 60)")
    parser.add_argument(
        "--request-us",
        type=float,
        default=150.0,
        help="CPU time of a whole chat request in µs (default: 150)",
    )
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    best = asyncio.run(measure_all(options.rounds))
    if options.json:
        print(json.dumps(best, indent=2))
        return
    direct = best["direct"]
    print(f"{'':16}{'request':>10}{'more':>8}{'share':>8}{'chunk':>9}{'more':>8}")
    for name, values in best.items():
        more = values["request_us"] - direct["request_us"]
        print(
            f"{name:16}{values['request_us']:7.2f} µs{more:8.2f}{more / options.request_us:8.1%}"
            f"{values['chunk_us']:6.3f} µs{values['chunk_us'] - direct['chunk_us']:8.3f}"
        )


if __name__ == "__main__":
    main()
