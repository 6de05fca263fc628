"""The canary of a worker runs as long as somebody asks for reports."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest

from maxgate.api.admin.canary import NewCanary
from maxgate.canary.worker import WorkerCanary
from maxgate.errors import GatewayError
from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.upstream.backend import UpstreamBackend
from maxgate.upstream.http1.transport import EngineTransport
from maxgate.upstream.pool import ReplicaPool
from maxgate.upstream.replica import EngineModel, Replica
from maxgate.upstream.settings import UpstreamSettings
from tests.fakes.max_server import OUTPUT_TOKENS, FakeMax, Script
from tests.fakes.requests import generation_request
from tests.fakes.server import serving
from tests.fakes.waiting import until

MODEL = "small-on-max"


@dataclass
class Setup:
    """A worker in front of one engine, beside a new one."""

    backend: UpstreamBackend
    canary: WorkerCanary
    new: FakeMax
    plan: NewCanary

    async def start(self) -> None:
        """Start the canary and wait for the models of the new engine."""

        async def is_ready() -> bool:
            return self.canary.report("1", self.plan, 0).models == [MODEL]

        await until(is_ready)

    async def send(self, request: GenerationRequest) -> list[Chunk]:
        """Return all chunks of the client's response."""
        async with aclosing(self.backend.stream(request)) as chunks:
            return [chunk async for chunk in chunks]


@asynccontextmanager
async def running() -> AsyncIterator[Setup]:
    """Run both engines."""
    old, new = FakeMax(models=[MODEL]), FakeMax(models=[MODEL])
    settings = UpstreamSettings()
    async with (
        serving(old) as url,
        serving(new) as new_url,
        aclosing(EngineTransport(settings)) as client,
    ):
        replica = Replica(url)
        replica.mark_healthy({MODEL: EngineModel(MODEL, 1, 100)})
        pool = ReplicaPool([replica], client, settings)
        backend = UpstreamBackend(pool)
        canary = WorkerCanary(backend, pool, lambda engine: EngineTransport(settings, [engine]))
        async with aclosing(canary):
            yield Setup(backend, canary, new, NewCanary(url=new_url, share=100, mirror=True))


def greedy() -> GenerationRequest:
    """Return a greedy request with token ids."""
    request = generation_request(prompt=TokenIds.of([1, 2, 3]), stream=True)
    return request._replace(sampling=request.sampling._replace(temperature=0.0))


async def test_reports() -> None:
    """A report has the samples after those that are known, and an end leaves the backend alone."""
    async with running() as setup:
        await setup.start()
        for _ in range(3):
            await setup.send(greedy())

        async def has_all() -> bool:
            return len(setup.canary.report("1", setup.plan, 0).samples) == 3

        await until(has_all)
        report = setup.canary.report("1", setup.plan, 2)
        assert (len(report.samples), report.seen, report.samples[0].prefix) == (1, 3, 1)
        assert len(setup.canary.report("1", None, 0).samples) == 3
        assert setup.backend.diversion is None
        assert setup.canary.report("1", None, 0).samples == []


async def test_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without reports, as after the end of the command or the parent, the canary ends."""
    monkeypatch.setattr("maxgate.canary.worker.LEASE", 0.2)
    async with running() as setup:
        await setup.start()

        async def has_ended() -> bool:
            return setup.backend.diversion is None

        await until(has_ended)
        await setup.send(greedy())
        assert setup.new.requests == []


async def test_other_canary() -> None:
    """A canary with another id replaces the one of before."""
    async with running() as setup:
        await setup.start()
        before = setup.backend.diversion
        assert setup.canary.report("2", setup.plan, 0).seen == 0
        assert setup.backend.diversion is not before


async def test_end_during_copy() -> None:
    """The end of the canary and of the worker cancels copies."""
    async with running() as setup:
        setup.new.default = Script(begins=asyncio.Event())
        await setup.start()
        await setup.send(greedy())
        await setup.new.arrived.wait()
        assert setup.canary.report("1", setup.plan, 0).in_progress == 1


async def test_client_leaves() -> None:
    """The response to a client that disconnects is not compared."""
    async with running() as setup:
        await setup.start()
        request = greedy()
        async with aclosing(setup.backend.stream(request)) as chunks:
            await anext(chunks)
            request.context.cancelled_at = 1.0
        report = setup.canary.report("1", setup.plan, 0)
        assert (report.skipped, report.in_progress) == ({"no_response": 1}, 0)


async def test_same_chunks() -> None:
    """The client's chunks are those of a backend without a canary, except for their ids."""
    async with running() as setup:
        plain = await setup.send(greedy())
        await setup.start()
        diverted = await setup.send(greedy())
        texts, reasons = ([c.text for c in plain], [c.finish_reason for c in plain])
        assert ([c.text for c in diverted], [c.finish_reason for c in diverted]) == (texts, reasons)
        assert [c.usage for c in diverted if c.usage] == [c.usage for c in plain if c.usage]


async def test_share_of_silent_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose first token does not come in time gets a normal engine."""
    monkeypatch.setattr("maxgate.canary.diversion._FIRST_TOKEN_TIMEOUT", 0.1)
    async with running() as setup:
        setup.plan = setup.plan.model_copy(update={"mirror": False})
        setup.new.default = Script(silent_after=0)
        await setup.start()
        chunks = await setup.send(greedy())
        assert "".join(chunk.text for chunk in chunks) == "".join(OUTPUT_TOKENS)
        [sample] = setup.canary.report("1", None, 0).samples
        assert (sample.error, len(setup.new.requests)) == ("timeout", 1)


async def test_share_of_engine_that_dies() -> None:
    """A stream that the new engine has begun ends with its error, and counts as one."""
    async with running() as setup:
        setup.plan = setup.plan.model_copy(update={"mirror": False})
        setup.new.default = Script(cut_after=2)
        await setup.start()
        with pytest.raises(GatewayError):
            await setup.send(greedy())
        assert [one.error for one in setup.canary.report("1", None, 0).samples] == [
            "upstream_error"
        ]
