"""The connection of a client, as our own server offers it to the application."""

from collections.abc import Callable
from typing import Final, Protocol

EXTENSION: Final = "maxgate.connection"
"""ASGI extension of `maxgate serve`: a ClientConnection under `scope["extensions"]`.

A server that offers it reports disconnects without a task per request, checks header limits,
enforces the time in which a request must arrive, and can hold the end of a response. Other servers
work without it.
"""
HEADER_LINES: Final = "maxgate.header_lines"
"""Key in `http.response.start` that only this server reads: header lines, with CR and LF."""


class ClientConnection(Protocol):
    """The connection of one client, as offered by the server.

    `refuses_requests` is set while the gateway stops: new requests get a 503. `is_shutting_down` is
    set before the server cancels the requests that are left. `lacks_descriptors` means that the
    gateway has no file descriptors for its requests. `on_disconnect` is called once the client
    disconnects; `is_lost` is set if it already has. `hold_writes` holds all further writes and
    returns the function that releases them, or None if writes are held already.
    """

    refuses_requests: bool
    is_shutting_down: bool
    lacks_descriptors: bool
    is_lost: bool
    on_disconnect: Callable[[], None] | None
    hold_writes: Callable[[], Callable[[], None] | None]
