"""Clients of the drill, and what they see."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import httpx
import orjson

Ending = Literal["complete", "error", "error_event", "broken", "silent", "no_connection"]
"""How a response ended.

`broken`: the connection was cut, which every client notices. `silent`: the stream ended without
[DONE] and without an error, which looks like a whole response.
"""

_TIMEOUT: Final = httpx.Timeout(40, connect=5)
_NO_KEEP_ALIVE: Final = httpx.Limits(max_connections=None, max_keepalive_connections=0)


@dataclass(frozen=True, slots=True)
class Result:
    """One request; `seconds` are those until its end."""

    ending: Ending
    status: int = 0
    code: str = ""
    retry_after: str = ""
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """Status and error code, such as `503 server_overloaded`."""
        match self.ending:
            case "complete":
                return str(self.status)
            case "error":
                return f"{self.status} {self.code}".rstrip()
            case "error_event":
                return f"{self.status} with error event {self.code}".rstrip()
            case "broken":
                return "connection cut"
            case "silent":
                return "CUT SILENTLY"
            case "no_connection":
                return "no connection"


class Client:
    """Sends streamed chat requests to a gateway, each on a connection of its own."""

    def __init__(self, url: str, key: str, model: str) -> None:
        self._url = url
        self._key = key
        self._body = {
            "model": model,
            "stream": True,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": "Count."}],
        }

    async def chat(self, *, key: str | None = None, padding: int = 0) -> Result:
        """Send one request; `key` replaces the right one, and `padding` bytes lengthen it."""
        body = dict(self._body)
        if padding:
            body["messages"] = [{"role": "user", "content": "x" * padding}]
        started = time.monotonic()
        try:
            async with (
                self._open(key) as client,
                client.stream("POST", "/v1/chat/completions", json=body) as response,
            ):
                ending, code = await _read(response)
                status, headers = response.status_code, response.headers
        except httpx.ConnectError:
            return Result("no_connection", seconds=time.monotonic() - started)
        except httpx.HTTPError:
            return Result("broken", seconds=time.monotonic() - started)
        seconds = time.monotonic() - started
        return Result(ending, status, code, headers.get("retry-after", ""), seconds)

    async def chat_many(self, count: int, *, interval: float = 0.0) -> list[Result]:
        """Send this many requests, all at once or one per interval; wait for all."""
        tasks = []
        for number in range(count):
            if number:
                await asyncio.sleep(interval)
            tasks.append(asyncio.create_task(self.chat()))
        return list(await asyncio.gather(*tasks))

    async def disconnect(self, after: float) -> None:
        """Send a request and close the connection after this time."""
        async with self._open(None) as client:
            try:
                async with asyncio.timeout(after):
                    await client.post("/v1/chat/completions", json=self._body)
            except TimeoutError:
                return

    async def get(self, path: str) -> httpx.Response:
        """Send a GET request with the key; raises httpx.HTTPError."""
        async with self._open(None) as client:
            return await client.get(path)

    def _open(self, key: str | None) -> httpx.AsyncClient:
        chosen = self._key if key is None else key
        headers = {"authorization": f"Bearer {chosen}"} if chosen else {}
        return httpx.AsyncClient(
            base_url=self._url,
            headers=headers,
            timeout=_TIMEOUT,
            limits=_NO_KEEP_ALIVE,
            trust_env=False,
            verify=False,  # noqa: S501  # plain HTTP; loading the system's certificates takes long
        )


async def _read(response: httpx.Response) -> tuple[Ending, str]:
    """Read a response to its end; return how it ended, and the code of its error."""
    if response.status_code != 200:
        return "error", _find_code(await response.aread())
    is_done, code = False, None
    async for line in response.aiter_lines():
        if line == "data: [DONE]":
            is_done = True
        elif line.startswith('data: {"error"'):
            code = _find_code(line[6:].encode())
    if code is not None:
        return "error_event", code
    return ("complete", "") if is_done else ("silent", "")


def _find_code(content: bytes) -> str:
    try:
        error: Mapping[str, Any] = orjson.loads(content)["error"]
        return str(error["code"] or error["type"])
    except (ValueError, LookupError, TypeError):
        return "without OpenAI's error shape"


def count_labels(results: Sequence[Result]) -> dict[str, int]:
    """Count the results by status and code, the most frequent first."""
    return dict(Counter(result.label for result in results).most_common())
