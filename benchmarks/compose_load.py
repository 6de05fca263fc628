"""Clients of docker-compose.full.yml, through nginx and TLS, that judge every response."""

import asyncio
import json
import ssl
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any, Final

import httpx

from benchmarks.compose_stack import CA, CHAT, URL

OK: Final = "ok"
CLOSED: Final = "connection closed"
_PATH: Final = "/v1/chat/completions"
_RETRIED: Final = frozenset({429, 503})
_TIMEOUT: Final = httpx.Timeout(60, connect=5)


@dataclass(frozen=True, slots=True)
class Request:
    """A request, its times in seconds, and its outcome: OK, a status with its code, or an error.

    `tokens` are those of the prompt and of the response. `attempts` is more than 1 if the client
    sent it again, as OpenAI's SDKs do after a closed connection and a 503 with `Retry-After`.
    """

    id: str
    is_stream: bool
    began: float
    ended: float
    outcome: str
    tokens: tuple[int, int] | None = None
    attempts: int = 1


def make_client(key: str) -> httpx.AsyncClient:
    """Return a client that trusts the CA of `maxgate certs dev`."""
    return httpx.AsyncClient(
        base_url=URL,
        verify=ssl.create_default_context(cafile=CA),
        timeout=_TIMEOUT,
        headers={"authorization": f"Bearer {key}"},
    )


async def send(
    client: httpx.AsyncClient, request_id: str, *, is_stream: bool, retries: int = 0
) -> Request:
    """Send a chat request, again after refusals that allow it."""
    began, attempts = monotonic(), 0
    while True:
        attempts += 1
        outcome, tokens, pause = await _send_once(client, request_id, is_stream=is_stream)
        if pause is None or attempts > retries:
            return Request(request_id, is_stream, began, monotonic(), outcome, tokens, attempts)
        await asyncio.sleep(pause)


async def _send_once(
    client: httpx.AsyncClient, request_id: str, *, is_stream: bool
) -> tuple[str, tuple[int, int] | None, float | None]:
    """Return the outcome, the tokens, and the pause before the next attempt."""
    body: dict[str, Any] = dict(CHAT)
    if is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        response = await client.post(_PATH, json=body, headers={"x-request-id": request_id})
    except httpx.RemoteProtocolError as error:
        # A reload of nginx ends idle connections, and a request may be under way on one.
        if "without sending a response" in str(error):
            return CLOSED, None, 0.5
        return "cut", None, None
    except httpx.HTTPError as error:
        return type(error).__name__, None, None
    if response.status_code != 200:
        pause = response.headers.get("retry-after")
        outcome = _describe(response)
        if response.status_code in _RETRIED and pause is None:
            outcome += " without Retry-After"
        return outcome, None, None if pause is None else float(pause)
    usage = _read_stream(response.text) if is_stream else response.json()["usage"]
    if isinstance(usage, str):
        return usage, None, None
    return OK, (usage["prompt_tokens"], usage["completion_tokens"]), None


def _describe(response: httpx.Response) -> str:
    try:
        return f"{response.status_code} {response.json()['error']['code']}"
    except (ValueError, LookupError, TypeError):
        return f"{response.status_code}"


def _read_stream(text: str) -> dict[str, int] | str:
    """Return the usage of a complete stream, or what it ended with."""
    events = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    if events[-1:] == ["[DONE]"]:
        usage: dict[str, int] = json.loads(events[-2])["usage"]
        return usage
    error = json.loads(events[-1]).get("error") if events else None
    return f"stream with {error['code']}" if error else "stream without an end"


@dataclass
class Load:
    """Requests of all clients, which send them one after the other; `name` is part of the ids."""

    key: str
    name: str
    retries: int = 0
    requests: list[Request] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    _ids: "count[int]" = field(default_factory=count)
    _ending: bool = False

    async def _send_all(self, *, is_stream: bool, pause: float) -> None:
        async with make_client(self.key) as client:
            while not self._ending:
                request_id = f"{self.name}-{next(self._ids)}"
                self.running.add(request_id)
                self.requests.append(
                    await send(client, request_id, is_stream=is_stream, retries=self.retries)
                )
                self.running.discard(request_id)
                failed = self.requests[-1].outcome != OK
                await asyncio.sleep(1 if failed else pause)

    @asynccontextmanager
    async def run(self, streams: int, chats: int) -> AsyncIterator[None]:
        """Send during the block, and let the last requests end."""
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(self._send_all(is_stream=True, pause=0.05))
            for _ in range(chats):
                group.create_task(self._send_all(is_stream=False, pause=0.3))
            try:
                yield
            finally:
                self._ending = True

    def select(self, condition: Callable[[Request], bool]) -> list[Request]:
        """Return the requests of a condition."""
        return [request for request in self.requests if condition(request)]


def count_outcomes(requests: Sequence[Request]) -> str:
    """Describe the outcomes but OK, the most frequent one first."""
    outcomes = Counter(request.outcome for request in requests if request.outcome != OK)
    return ", ".join(f"{number} x {name}" for name, number in outcomes.most_common()) or "none"


def measure_chats(requests: Sequence[Request]) -> tuple[float, float]:
    """Return the median and the P99 of complete chats that were not streamed, in milliseconds."""
    seconds = sorted(r.ended - r.began for r in requests if r.outcome == OK and not r.is_stream)
    if not seconds:
        return 0.0, 0.0
    return statistics.median(seconds) * 1000, seconds[int(len(seconds) * 0.99)] * 1000


def compare_ledger(requests: Sequence[Request], lines: Sequence[dict[str, Any]]) -> str:
    """Compare complete responses with the lines of usage; empty if each has exactly one."""
    found: dict[str, list[tuple[int, int]]] = {}
    for line in lines:
        tokens = (line["input_tokens"], line["output_tokens"])
        found.setdefault(line["request"], []).append(tokens)
    complete = {request.id: request.tokens for request in requests if request.outcome == OK}
    missing = sum(name not in found for name in complete)
    wrong = sum(found[name] != [tokens] for name, tokens in complete.items() if name in found)
    return f"{missing} missing, {wrong} wrong or repeated" if missing or wrong else ""
