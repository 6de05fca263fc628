"""A client below HTTP: it sends prepared bytes and reads what comes back."""

import asyncio


async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection to the server with this URL."""
    host, _, port = url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


async def send_bytes(url: str, content: bytes) -> tuple[bytes, bytes]:
    """Send these bytes on a new connection; return head and body, read until it is closed."""
    reader, writer = await connect(url)
    writer.write(content)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body
