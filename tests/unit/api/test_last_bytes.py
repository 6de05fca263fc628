"""Headers of limits, and the last bytes of a response, on our own server and on others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from maxgate.api.browsers import BrowserGuard
from maxgate.api.connection import EXTENSION, HEADER_LINES
from maxgate.api.middleware import RequestContextMiddleware
from maxgate.generation.context import Principal, RequestContext
from tests.fakes.asgi import SentMessages, http_scope
from tests.fakes.clock import FakeClock

LINES = b"x-ratelimit-limit-requests: 3\r\nx-ratelimit-remaining-requests: 2\r\n"
PATH = "/v1/completions"


class Connection:
    """A connection of our own server that can hold writes once."""

    is_shutting_down = refuses_requests = lacks_descriptors = False

    def __init__(self) -> None:
        self.events: list[str] = []

    def hold_writes(self) -> Callable[[], None] | None:
        if self.events:
            return None
        self.events.append("held")
        return lambda: self.events.append("released")


class Ledger:
    """A ledger whose lines are durable when `durable` is set, or at once if it has no room."""

    is_refusing = False

    def __init__(self, *, has_room: bool = True) -> None:
        self._has_room = has_room
        self.durable = asyncio.Event()
        self.on_durable: list[Callable[[], None]] = []

    def commit(self, context: RequestContext) -> Awaitable[Any] | None:
        context.ledger = None
        return self.durable.wait() if self._has_room else None

    def commit_then(self, context: RequestContext, on_durable: Callable[[], None]) -> bool:
        context.ledger = None
        self.on_durable.append(on_durable)
        return self._has_room

    def append(self, context: RequestContext) -> None:
        raise AssertionError(context)


class Limits:
    """Limits that refuse nothing."""

    def check(self, principal: Principal) -> None:
        del principal

    def format_headers(self, context: RequestContext) -> bytes:
        del context
        return LINES


async def respond(
    sent: SentMessages, ledger: Ledger | None = None, connection: Connection | None = None
) -> None:
    """Serve one request, whose line is to be written to the ledger."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["context"].ledger = ledger
        await PlainTextResponse("a")(scope, receive, send)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    middleware = RequestContextMiddleware(
        app, [], FakeClock(), BrowserGuard(["*"], []), limits=Limits()
    )
    extensions = {} if connection is None else {"extensions": {EXTENSION: connection}}
    await middleware(http_scope("POST", PATH) | extensions, receive, sent)


async def test_limits_on_own_server() -> None:
    """Our own server gets the headers of limits as lines."""
    sent = SentMessages()
    await respond(sent, connection=Connection())
    assert sent.messages[0][HEADER_LINES] == LINES
    assert not any(name.startswith("x-ratelimit") for name in sent.headers)


async def test_limits_on_other_servers() -> None:
    """Other servers get them as headers."""
    sent = SentMessages()
    await respond(sent)
    assert HEADER_LINES not in sent.messages[0]
    limits = {name: value for name, value in sent.headers.items() if "ratelimit" in name}
    assert limits == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
    }


async def test_held_by_own_server() -> None:
    """Our own server holds the body from before it is sent until the line is durable."""
    sent, ledger, connection = SentMessages(), Ledger(), Connection()
    await respond(sent, ledger, connection)
    assert (sent.body, connection.events) == (b"a", ["held"])
    [on_durable] = ledger.on_durable
    on_durable()
    assert connection.events == ["held", "released"]


async def test_no_room_for_the_line() -> None:
    """Without room for the line, nothing is held."""
    sent, connection = SentMessages(), Connection()
    await respond(sent, Ledger(has_room=False), connection)
    assert (sent.body, connection.events) == (b"a", ["held", "released"])


@pytest.mark.parametrize("own_server", [True, False])
async def test_waiting_request(*, own_server: bool) -> None:
    """On other servers, and behind a response that is held, the request waits itself."""
    sent, ledger = SentMessages(), Ledger()
    connection = Connection() if own_server else None
    if connection is not None:
        connection.hold_writes()
    running = asyncio.create_task(respond(sent, ledger, connection))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (sent.status, sent.body, running.done()) == (200, b"", False)
    ledger.durable.set()
    await running
    assert sent.body == b"a"
