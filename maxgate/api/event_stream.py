"""Writing an event stream to a client."""

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Final

from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.errors import classify_error, error_json
from maxgate.api.request_body import Receive, Scope, Send
from maxgate.clock import Clock
from maxgate.errors import GatewayError
from maxgate.generation.request_record import RequestRecord

DONE: Final = b"data: [DONE]\n\n"
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


def event(data: bytes) -> bytes:
    """One event; the data holds no line breaks, as JSON never does."""
    return b"data: %b\n\n" % data


class EventStreamSender:
    """Sends events to one client, and comments while there are none.

    Nothing is sent before the first event or comment, so that an error before it is still an
    answer with a status of its own. `keep_alive` is the silence, in seconds, after which a
    comment is sent.
    """

    def __init__(self, send: Send, clock: Clock, keep_alive: float) -> None:
        self._send = send
        self._clock = clock
        self._keep_alive = keep_alive
        self._last_sent = clock.monotonic()
        self.started = False

    def write(self, events: bytes) -> Awaitable[None]:
        """Send these events now."""
        if not self.started:
            return self._begin(events)
        self._last_sent = self._clock.monotonic()
        return self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def _begin(self, events: bytes) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self.write(events)

    async def beat(self) -> None:
        """Send a comment if nothing was sent for a while."""
        if self._clock.monotonic() - self._last_sent >= self._keep_alive / 2:
            await self.write(_KEEP_ALIVE)

    async def end(self) -> None:
        """Close the stream."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStreams:
    """Answers requests with event streams."""

    def __init__(self, clock: Clock, keep_alive: float) -> None:
        self._clock = clock
        self._keep_alive = keep_alive

    async def respond(
        self, scope: Scope, receive: Receive, send: Send, events: AsyncGenerator[bytes]
    ) -> None:
        """Send the events as they come.

        Raises the GatewayError that comes before the first event. One that comes later is sent as
        the last event of the stream: OpenAI's SDKs raise it, and no `[DONE]` follows.
        Raises ClientDisconnect when the client leaves; the events are closed before that.
        """
        sender = EventStreamSender(send, self._clock, self._keep_alive)
        record: RequestRecord = scope["state"]["context"].record
        async with DisconnectWatch(scope, receive, sender.beat, self._keep_alive):
            try:
                async with aclosing(events):
                    async for data in events:
                        await sender.write(data)
            except GatewayError as error:
                if not sender.started:
                    raise
                before_first = record.first_token_at is None
                record.outcome = classify_error(error) if before_first else "truncated"
                record.error_code = error.code
                await sender.write(event(error_json(error)))
            await sender.end()
