"""A DNS server that resolves every name to the same IPv4 addresses (RFC 1035)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from typing_extensions import override

_FLAGS: Final = b"\x81\x80"  # a response without an error
_ANSWER: Final = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x01\x00\x04"  # A, IN, 1 s, of the question


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """A server at a port of 127.0.0.1; `addresses` may change."""

    addresses: Sequence[str]
    port: int = 0
    _transport: asyncio.DatagramTransport = field(init=False)

    @override
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    @override
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        count = len(self.addresses).to_bytes(2, "big")
        head = data[:2] + _FLAGS + b"\0\1" + count + b"\0\0\0\0"
        answers = (_ANSWER + IPv4Address(address).packed for address in self.addresses)
        self._transport.sendto(head + question + b"".join(answers), addr)


@asynccontextmanager
async def serve_dns(*addresses: str) -> AsyncIterator[DnsServer]:
    """Serve these addresses."""
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: DnsServer(addresses), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server
    finally:
        transport.close()
