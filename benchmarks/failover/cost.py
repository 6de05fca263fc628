"""Measure the CPU time of failure handling in the upstream layer.

    python -m benchmarks.failover.cost [--rounds 60] [--request-us 150] [--json]

Calls engines without sockets, in this process: directly and by the upstream layer, with one engine
and with three. The direct call is admitted, chooses the least loaded engine, sends the request,
fills in the request record and parses the response: without breaker, retries, retry budget,
continuation or adaptive deadlines. Values are the best of the rounds, which alternate between the
cases; the time of a chunk is the difference of two streams of different length. `--request-us` is
the CPU time of a whole chat request, of which shares are given; `python -m benchmarks.before_after`
measures it.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from itertools import repeat
from typing import Any

from maxgate.errors import UpstreamError
from maxgate.generation.chunk import Chunk
from maxgate.generation.guard import NoGuard
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
from maxgate.upstream.routing.policy import LeastLoaded, RoutingKey
from maxgate.upstream.settings import ContinuationSettings, FailoverSettings, UpstreamSettings
from maxgate.upstream.token_timeout import TokenTimeout
from tests.fakes.requests import generation_request

MODEL = "small-on-max"
LENGTHS = (100, 300)  # of streams, in tokens
REQUESTS = 300  # plain ones in a round
STREAMS = 5
PROMPT = TokenIds.of([1, 2, 3])
PLAIN = (
    b'{"id":"x","choices":[{"index":0,"text":"Paris","finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)
LAST = [
    b'data: {"id":"x","choices":[{"index":0,"text":"","finish_reason":"length"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}\n\n',
    b"data: [DONE]\n\n",
]
Call = Callable[[GenerationRequest], AsyncIterator[Chunk]]


def build_stream(tokens: int, *, with_ids: bool) -> list[bytes]:
    """Return the events of a stream as MAX sends them."""
    events = []
    for number in range(tokens):
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
    """Sends requests to the least loaded engine and parses the responses, and nothing else."""

    def __init__(self, client: Client, engines: int) -> None:
        self._client = client
        self._replicas = build_replicas(engines)
        self._policy = LeastLoaded()
        self._settings = UpstreamSettings()
        self._guard = NoGuard()

    def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        """Yield the chunks of a response."""
        return self._stream(request) if request.stream else self._fetch(request)

    async def _fetch(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        settings = self._settings
        async with self._guard.admit(request) as lease:
            started_at, replica = time.monotonic(), self._choose(request)
            try:
                deadline = asyncio.get_running_loop().time() + settings.response_timeout
                async with await self._send(request, replica) as response:
                    data = await response.read(settings.max_response_bytes, deadline)
                chunk = parse_response(data, request)
            finally:
                replica.in_flight -= 1
                request.context.record.engine_seconds += time.monotonic() - started_at
            if chunk.usage is not None:
                lease.settle(chunk.usage)
        yield chunk

    async def _stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        async with self._guard.admit(request) as lease:
            started_at, replica = time.monotonic(), self._choose(request)
            try:
                timeout, reader = TokenTimeout(self._settings), ChunkReader(request, None, lease)
                async with await self._send(request, replica) as response:
                    timeout.start(response)
                    with reader:
                        async for data in response:
                            for chunk in reader.feed(data):
                                yield chunk
                            timeout.after_read(response, reader)
            finally:
                replica.in_flight -= 1
                request.context.record.engine_seconds += time.monotonic() - started_at

    def _choose(self, request: GenerationRequest) -> Replica:
        model, replicas = request.model.engine_name, self._replicas
        if len(replicas) == 1:
            [replica] = replicas
        else:
            serving = [replica for replica in replicas if model in replica.serving]
            replica = self._policy.choose(serving, RoutingKey(model))
        replica.in_flight += 1
        return replica

    async def _send(self, request: GenerationRequest, replica: Replica) -> EngineResponse:
        settings, record = self._settings, request.context.record
        prompt = request.prompt_token_ids
        record.sent_tokens = record.sent_tokens or (0 if prompt is None else prompt.length)
        record.engine = replica.url
        record.engine_calls += 1
        response = await self._client.send(
            EngineRequest(
                resolve_route(replica.target, select_path(request)),
                serialize_request(request),
                *(settings.connect_timeout, settings.first_token_timeout, settings.idle_timeout),
                request.context,
                [(b"x-request-id", record.request_id.encode())],
            )
        )
        for name, value in response.headers:
            if name.lower() == b"x-request-id":
                record.engine_request_id = value.decode("latin-1")
        if response.status != 200:
            raise UpstreamError("failed")
        return response


def build_replicas(count: int) -> list[Replica]:
    """Return this number of healthy engines."""
    replicas = [Replica(f"http://engine{number}") for number in range(count)]
    for replica in replicas:
        replica.mark_healthy({MODEL: EngineModel(MODEL, 1, 8192)})
    return replicas


def build_upstream(client: Client, engines: int, *, continued: bool) -> UpstreamBackend:
    """Build the upstream layer in front of this number of engines."""
    failover = FailoverSettings(
        continuation=ContinuationSettings() if continued else ContinuationSettings(attempts=0)
    )
    sender: Any = client
    return UpstreamBackend(
        ReplicaPool(build_replicas(engines), sender, UpstreamSettings(), failover)
    )


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
    cases: dict[str, tuple[Call, list[list[bytes]]]] = {}
    for with_ids in (False, True):
        streams = [build_stream(tokens, with_ids=with_ids) for tokens in LENGTHS]
        suffix = ", ids" if with_ids else ""
        for engines, of in ((1, "1 engine"), (3, "3 engines")):
            upstream = build_upstream(client, engines, continued=with_ids)
            cases[f"{of}{suffix}, direct"] = Direct(client, engines).stream, streams
            cases[f"{of}{suffix}"] = upstream.stream, streams
    best = {name: [float("inf")] * 3 for name in cases}
    for _ in range(rounds):
        for name, (call, streams) in cases.items():
            found = []
            for pieces, requests in (([PLAIN], REQUESTS), *((one, STREAMS) for one in streams)):
                client.pieces = pieces
                found.append(await measure(call, requests, stream=len(pieces) > 1))
            best[name] = [*map(min, best[name], found)]
    return {
        name: {"request_us": plain, "chunk_us": (long - short) / (LENGTHS[1] - LENGTHS[0])}
        for name, (plain, short, long) in best.items()
    }


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
    print(f"{'':24}{'request':>10}{'more':>8}{'share':>8}{'chunk':>9}{'more':>8}")
    for name, values in best.items():
        direct = best[f"{name.removesuffix(', direct')}, direct"]
        more = values["request_us"] - direct["request_us"]
        print(
            f"{name:24}{values['request_us']:7.2f} µs{more:8.2f}{more / options.request_us:8.1%}"
            f"{values['chunk_us']:6.3f} µs{values['chunk_us'] - direct['chunk_us']:8.3f}"
        )


if __name__ == "__main__":
    main()
