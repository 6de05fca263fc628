"""Clients that judge every response of a gateway whose workers or process end.

They never send a request again: a connection that ends without a response is a failure.
"""

import asyncio
import json
import random
import ssl
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

HANG_TIMEOUT = 20.0
HOST = "127.0.0.1"
MESSAGES = [{"role": "user", "content": "Hello"}]
COMPLETE = "200"
REFUSED = "503"
CONNECTION_REFUSED = "connection refused"


@dataclass
class Results:
    """Outcomes by name, and the seconds of each request."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def longest(self) -> float:
        """The longest request in seconds."""
        return max(self.seconds, default=0.0)

    def count_failures(self, *allowed: str) -> int:
        """Count the requests with another outcome."""
        return sum(count for name, count in self.outcomes.items() if name not in allowed)


class Client:
    """One client: half of its requests stream, some open a connection, some follow a pause."""

    def __init__(
        self, port: int, results: Results, seed: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self._port = port
        self._tls = tls
        self._results = results
        self._random = random.Random(seed)
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self) -> str:
        """Send one request, count its outcome and return it."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(HANG_TIMEOUT):
                outcome = await self._send()
        except TimeoutError:
            outcome = "hang"
        except asyncio.IncompleteReadError as error:
            outcome = "cut" if error.partial else "closed without a response"
        except ConnectionRefusedError:
            outcome = CONNECTION_REFUSED
        except OSError as error:
            outcome = type(error).__name__
        if outcome != COMPLETE:
            self.close()
        self._results.outcomes[outcome] += 1
        self._results.seconds.append(time.perf_counter() - began)
        return outcome

    async def _send(self) -> str:
        chance = self._random.random()
        if chance < 0.1:
            self.close()
        elif chance < 0.2:
            await asyncio.sleep(self._random.random() / 20)
        if self._connection is None:
            self._connection = await asyncio.open_connection(HOST, self._port, ssl=self._tls)
        reader, writer = self._connection
        streams = self._random.random() < 0.5
        body = json.dumps({"messages": MESSAGES, "stream": streams}).encode()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        content = await _read_body(reader, head.lower())
        closes = b"\r\nconnection: close\r\n" in head.lower()
        status = head.split(b" ")[1].decode()
        if closes:
            self.close()
        if status == REFUSED and not (closes and b"\r\nretry-after: " in head.lower()):
            return "503 without its headers"
        if status == COMPLETE and not _is_complete(content, streams=streams):
            return "incomplete response"
        return status

    async def finish(self) -> None:
        """Close the connection, if there is one, and wait for its end."""
        if self._connection is not None:
            _, writer = self._connection
            self.close()
            with suppress(OSError):
                await writer.wait_closed()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection[1].close()
        self._connection = None


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if b"transfer-encoding: chunked" not in head:
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await reader.readexactly(int(length))
    content = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        content += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return content


def _is_complete(content: bytes, *, streams: bool) -> bool:
    if streams:
        return content.endswith(b"data: [DONE]\n\n") and b'"error"' not in content
    with suppress(ValueError, LookupError):
        return bool(json.loads(content)["choices"][0]["finish_reason"])
    return False
