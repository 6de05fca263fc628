"""A transport that remembers what was written to it."""

import asyncio


class RecordedTransport(asyncio.Transport):
    """Every write is kept in `written`, and so is that it was closed, for which `closed` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        if not self.closed.is_set():
            self.written.append(b"closed")
            self.closed.set()

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Nothing is read here."""

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""
