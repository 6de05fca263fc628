"""Clients of an overloaded gateway: they send at a fixed rate and disconnect when they give up."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from benchmarks.gateway.http_client import Target

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PATIENCE: Final = 10.0
"""Seconds after which a client gives up."""


@dataclass(frozen=True)
class Response:
    """The outcome of a request; times are in seconds since it was due.

    `ended_at` is in seconds since the begin of `send_steadily`. `status` is 0 without a complete
    response. `weighted_tokens` are prompt tokens plus twice the generated ones.
    """

    status: int
    seconds: float
    first_token: float = 0.0
    retry_after: float | None = None
    weighted_tokens: int = 0
    ended_at: float = 0.0

    @property
    def is_refusal(self) -> bool:
        """Whether the gateway refused the request."""
        return self.status in {429, 503}


@dataclass
class Clients:
    """Clients of the gateway at `target`, with connections that are kept alive."""

    target: Target
    fields: Mapping[str, Any] = field(default_factory=dict)
    patience: float = PATIENCE
    responses: list[Response] = field(default_factory=list)
    _idle: list[Connection] = field(default_factory=list)

    def __post_init__(self) -> None:
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        fields = {"model": "smollm2-135m-instruct", "messages": messages, "max_tokens": 8}
        body = json.dumps({**fields, **self.fields}, separators=(",", ":")).encode()
        self._request = self.target.encode_head(len(body)) + body

    async def send_steadily(self, rate: float, seconds: float) -> Sequence[Response]:
        """Send at this rate, whether or not earlier requests have been served."""
        loop = asyncio.get_running_loop()
        began, tasks = loop.time(), []
        for number in range(round(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(due - loop.time())
            tasks.append(asyncio.create_task(self.send(due)))
        await asyncio.sleep(began + seconds - loop.time())
        responses = await asyncio.gather(*tasks)
        return [
            replace(response, ended_at=number / rate + response.seconds)
            for number, response in enumerate(responses)
        ]

    async def send(self, due: float | None = None) -> Response:
        """Send a request."""
        loop = asyncio.get_running_loop()
        due = loop.time() if due is None else due
        try:
            async with asyncio.timeout(self.patience), self._connect() as connection:
                response = await self._exchange(connection, due)
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            response = Response(0, loop.time() - due)
        self.responses.append(response)
        return response

    def close(self) -> None:
        """Close the connections."""
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        while self._idle and self._idle[-1][0].at_eof():
            self._idle.pop()[1].close()
        connection = (
            self._idle.pop()
            if self._idle
            else await asyncio.open_connection("127.0.0.1", self.target.port, limit=2**20)
        )
        try:
            yield connection
        except BaseException:
            connection[1].close()
            raise
        self._idle.append(connection)

    async def _exchange(self, connection: Connection, due: float) -> Response:
        loop, (reader, writer) = asyncio.get_running_loop(), connection
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        headers = dict(
            line.split(b":", 1) for line in head.lower().rstrip().split(b"\r\n")[1:] if line
        )
        first_token = 0.0
        if b"content-length" in headers:
            body = await reader.readexactly(int(headers[b"content-length"]))
        else:
            pieces = []
            while size := int(await reader.readline(), 16):
                first_token = first_token or loop.time() - due
                pieces.append((await reader.readexactly(size + 2))[:-2])
            await reader.readexactly(2)
            body = b"".join(pieces)
        seconds = loop.time() - due
        if status != 200:
            return Response(status, seconds, retry_after=read_retry_after(headers))
        weighted_tokens = count_tokens(body)
        return Response(
            200 if weighted_tokens else 0, seconds, first_token, weighted_tokens=weighted_tokens
        )


def read_retry_after(headers: Mapping[bytes, bytes]) -> float | None:
    """Return the seconds after which the server wants a retry."""
    milliseconds, seconds = headers.get(b"retry-after-ms"), headers.get(b"retry-after")
    if milliseconds is not None:
        return float(milliseconds) / 1000
    return None if seconds is None else float(seconds)


def count_tokens(body: bytes) -> int:
    """Return the weighted tokens of a complete response, 0 if it is not complete."""
    if body.startswith(b"data:"):
        events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]
        if events[-1] != b"[DONE]":
            return 0
        body = events[-2]
    usage = json.loads(body).get("usage") or {}
    return int(usage.get("prompt_tokens", 0)) + 2 * int(usage.get("completion_tokens", 0))


def find_quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile, NaN without values."""
    ordered = sorted(values)
    return ordered[int((len(ordered) - 1) * share)] if ordered else float("nan")
