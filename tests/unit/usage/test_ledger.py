"""The ledger of one worker: requests wait for their lines, each of which is written once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from maxgate.generation.context import RequestContext
from maxgate.usage.ledger import SpooledLedger
from maxgate.usage.mover import MoverEvents
from maxgate.usage.settings import UsageSettings
from tests.fakes.clock import FakeClock
from tests.fakes.requests import request_context
from tests.fakes.usage_store import FakeUsageStore


def ignore(number: int) -> None:
    """Do nothing with a number of lines."""
    del number


@asynccontextmanager
async def run_ledger(state_dir: Path) -> AsyncIterator[tuple[SpooledLedger, FakeUsageStore]]:
    """Run a ledger; its lines are in the store afterwards."""
    store = FakeUsageStore()
    ledger = SpooledLedger(
        UsageSettings(enabled=True),
        state_dir,
        store,
        FakeClock(),
        find_batch_size=lambda _: 1,
        on_written=ignore,
        on_lost=ignore,
        events=MoverEvents(ignore, ignore, ignore),
    )
    async with ledger.running():
        yield ledger, store


def build_context(ledger: SpooledLedger, *, engine_calls: int = 1) -> RequestContext:
    """Return the context of a request that reached a model."""
    context = request_context()
    context.record.model, context.record.engine_calls = "small", engine_calls
    context.ledger = ledger
    return context


async def test_commit(tmp_path: Path) -> None:
    """A request has one line, whoever asks for it first."""
    async with run_ledger(tmp_path) as (ledger, store):
        context = build_context(ledger)
        durable = context.commit_line()
        assert durable is not None
        assert (context.commit_line(), ledger.commit(context)) == (None, None)
        ledger.append(context)
        await durable
    assert [entry.outcome for entry in store.entries] == ["ok"]


async def test_callback(tmp_path: Path) -> None:
    """The end of a response may be sent by a callback; without engine call it need not wait."""
    async with run_ledger(tmp_path) as (ledger, store):
        durable = asyncio.Event()
        assert ledger.commit_then(build_context(ledger), durable.set)
        await durable.wait()
        assert not ledger.commit_then(build_context(ledger, engine_calls=0), durable.clear)
    assert durable.is_set()
    assert len(store.entries) == 2


async def test_cancelled_request(tmp_path: Path) -> None:
    """A request that is cancelled while it waits has its line, and disturbs no other."""
    async with run_ledger(tmp_path) as (ledger, store):
        first, second = (ledger.commit(build_context(ledger)) for _ in range(2))
        assert first is not None
        assert second is not None
        cancelled = asyncio.ensure_future(first)
        cancelled.cancel()
        await second
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert len(store.entries) == 2


async def test_end(tmp_path: Path) -> None:
    """A ledger that has ended takes no lines, and nothing waits for it."""
    async with run_ledger(tmp_path) as (ledger, store):
        pass
    assert ledger.commit(build_context(ledger)) is None
    assert store.entries == []
