"""Send server-sent events to a client."""

from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Final

from starlette.types import Receive, Scope, Send

from maxgate.api.disconnect import DisconnectWatch
from maxgate.api.errors import classify_error, encode_error
from maxgate.clock import Clock
from maxgate.errors import GatewayError
from maxgate.generation.context import RequestContext

DONE: Final = b"data: [DONE]\n\n"
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


def encode_event(data: bytes) -> bytes:
    """Encode one event. The data must not contain line breaks; JSON never does."""
    return b"data: %b\n\n" % data


class EventStreamSender:
    """Sends events to one client, and comments during silence.

    The response starts with the first event or comment, so that an earlier error can still be a
    response with its own status. `keep_alive` is the silence, in seconds, before a comment.
    """

    def __init__(self, send: Send, clock: Clock, keep_alive: float) -> None:
        self._send = send
        self._clock = clock
        self._keep_alive = keep_alive
        self._last_sent = clock.monotonic()
        self.started = False

    def write(self, events: bytes) -> Awaitable[None]:
        """Send encoded events now."""
        if not self.started:
            return self._start(events)
        self._last_sent = self._clock.monotonic()
        return self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def _start(self, events: bytes) -> None:
        self.started = True
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await self.write(events)

    async def send_keep_alive(self) -> None:
        """Send a comment if nothing was sent recently."""
        if self._clock.monotonic() - self._last_sent >= self._keep_alive / 2:
            await self.write(_KEEP_ALIVE)

    async def end(self) -> None:
        """End the response."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class EventStreams:
    """Responds to requests with event streams."""

    def __init__(self, clock: Clock, keep_alive: float) -> None:
        self._clock = clock
        self._keep_alive = keep_alive

    async def respond(
        self, scope: Scope, receive: Receive, send: Send, events: AsyncGenerator[bytes]
    ) -> None:
        """Send the events as they arrive.

        Raises a GatewayError that occurs before the first event. A later one becomes the last
        event of the stream, without `[DONE]`: OpenAI's SDKs raise it.
        Raises ClientDisconnect after closing the events.
        """
        sender = EventStreamSender(send, self._clock, self._keep_alive)
        context: RequestContext = scope["state"]["context"]
        async with DisconnectWatch(scope, receive, sender.send_keep_alive, self._keep_alive):
            try:
                async with aclosing(events):
                    async for data in events:
                        await sender.write(data)
            except GatewayError as error:
                if not sender.started:
                    raise
                record = context.record
                is_first = record.first_token_at is None
                record.outcome = classify_error(error) if is_first else "truncated"
                record.error_code = error.code
                await sender.write(encode_event(encode_error(error)))
            await sender.end()
