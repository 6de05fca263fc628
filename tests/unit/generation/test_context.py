"""The end of a request waits for its line in the ledger."""

import asyncio
from collections.abc import Callable

import pytest

from maxgate.generation.context import RequestContext
from tests.fakes.requests import request_context


class Ledger:
    """A ledger whose lines are durable when a test says so."""

    is_refusing = False

    def __init__(self, *, waits: bool = True) -> None:
        self._waits = waits
        self.on_durable: Callable[[], None] | None = None

    def commit(self, context: RequestContext, on_durable: Callable[[], None]) -> bool:
        context.ledger = None
        self.on_durable = on_durable
        return self._waits

    def append(self, context: RequestContext) -> None:
        context.ledger = None


async def test_durable_line() -> None:
    """The last byte waits until the line is durable; the line is written once."""
    ledger, context = Ledger(), request_context()
    context.ledger = ledger
    durable = context.commit_line()
    assert durable is not None
    assert ledger.on_durable is not None
    assert context.commit_line() is None
    waiting = asyncio.ensure_future(durable)
    assert not waiting.done()
    ledger.on_durable()
    await waiting


async def test_nothing_to_wait_for() -> None:
    """Without room for the line, the request ends at once."""
    context = request_context()
    context.ledger = Ledger(waits=False)
    assert context.commit_line() is None


async def test_cancelled_request() -> None:
    """A request that is cancelled while it waits disturbs no other one."""
    ledger, context = Ledger(), request_context()
    context.ledger = ledger
    durable = context.commit_line()
    assert durable is not None
    waiting = asyncio.ensure_future(durable)
    waiting.cancel()
    assert ledger.on_durable is not None
    ledger.on_durable()
    with pytest.raises(asyncio.CancelledError):
        await waiting
