"""Tell clients that have closed only their sending side from those that are gone.

Both look the same until something is sent to them: a client that is gone resets the connection.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

_FIRST_CHECK: Final = 0.01
_LAST_CHECK: Final = 1.0
# The state in the first byte of Linux' `struct tcp_info`: the connection was reset.
_TCP_CLOSE: Final = 7


class HalfCloseWatch:
    """Calls `on_reset` if the client turns out to be gone.

    `probe` is sent at once, if it is not empty; otherwise the response itself is the probe. Where
    the state of a socket cannot be read (not Linux), only a failed write shows that a client is
    gone.
    """

    def __init__(
        self, transport: asyncio.Transport, on_reset: Callable[[], None], probe: bytes
    ) -> None:
        self._socket: Any = transport.get_extra_info("socket")
        self._on_reset = on_reset
        self._delay = _FIRST_CHECK
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._delay, self._check)
        transport.write(probe)

    def cancel(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _check(self) -> None:
        if _is_reset(self._socket):
            self._on_reset()
            return
        self._delay = min(2 * self._delay, _LAST_CHECK)
        self._timer = self._loop.call_later(self._delay, self._check)


def _is_reset(connection: Any) -> bool:
    option = getattr(socket, "TCP_INFO", None)
    if option is None or connection is None or connection.family == socket.AF_UNIX:
        return False
    try:
        return bool(connection.getsockopt(socket.IPPROTO_TCP, option, 1)[0] == _TCP_CLOSE)
    except OSError:
        return True
