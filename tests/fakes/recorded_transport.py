"""A transport that records what is written to it."""

import asyncio


class RecordedTransport(asyncio.Transport):
    """Appends writes to `written`, and `b"closed"` when it is closed; then `closed` is set."""

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

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Ignore the protocol: this transport never reads."""

    def pause_reading(self) -> None:
        """Do nothing: this transport never reads."""

    def resume_reading(self) -> None:
        """Do nothing: this transport never reads."""
