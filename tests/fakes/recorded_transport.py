"""A transport that remembers what was written to it."""

import asyncio


class RecordedTransport(asyncio.Transport):
    """Every write is kept in `written`; closing it is kept there, too."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.written.append(b"closed")

    def abort(self) -> None:
        self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Nothing is read here."""

    def is_closing(self) -> bool:
        return b"closed" in self.written
