"""The connection of a request that its client left before MAX took it in."""

import asyncio
from collections.abc import Callable


class Abandoned(asyncio.Protocol):
    """Closes the connection with the first byte of an answer, and at the loop's time `at` at last.

    MAX reads new requests when a step of its batch begins, cancellations when it ends, and forgets
    those of requests that it has not read: these are then computed to their last token, for nobody
    (docs/decisions/0009-cancellations-wait-for-max.md). `on_close` is called with it when
    it is closed.
    """

    def __init__(
        self, transport: asyncio.Transport, at: float, on_close: "Callable[[Abandoned], None]"
    ) -> None:
        self._transport = transport
        self._on_close = on_close
        self._timer = asyncio.get_running_loop().call_at(at, self.close)
        transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:  # noqa: ARG002
        """See asyncio; MAX is at work on it, and will hear of its end."""
        self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See asyncio."""
        self._timer.cancel()
        self._on_close(self)

    def close(self) -> None:
        """Close now."""
        self._timer.cancel()
        self._transport.abort()
