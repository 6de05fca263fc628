"""Writes to sockets, those of one turn of the event loop together."""

import asyncio


class TurnWrites:
    """Holds what is written until the event loop's turn ends.

    What goes to one socket is joined to a single write. And writing wakes up whoever waits at the
    other end, which takes longer than the write itself: where many writes follow each other
    closely, most find it awake.
    """

    def __init__(self) -> None:
        self._held: dict[asyncio.WriteTransport, bytes] = {}

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write this at the end of the turn, in order; never if the transport is closed by then."""
        held = self._held
        if not held:
            asyncio.get_running_loop().call_soon(self.flush)
        before = held.get(transport)
        held[transport] = data if before is None else before + data

    def flush(self) -> None:
        """Write all that is held, now."""
        held, self._held = self._held, {}
        for transport, data in held.items():
            if not transport.is_closing():
                transport.write(data)
