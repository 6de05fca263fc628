"""Requests of every kind to a gateway with a ledger, and the comparison of both sides."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import httpx
from typing_extensions import override

from maxgate.stores.usage import UsageEntry
from maxgate.usage.folder import FOLDER, create_spool, list_segments
from tests.fakes.gateway import EMBEDDING_MODEL, TLS
from tests.fakes.max_server import FakeMax, Script

CHAT = "/v1/chat/completions"
WORDS = ("The", " capital", " of", " France", " is", " Paris", ".") * 3
KINDS = ("plain", "stream", "choices", "streamed choices", "text", "embedding", "abort")


class Tokens(NamedTuple):
    """Prompt and completion tokens."""

    prompt: int
    completion: int


class CountingMax(FakeMax):
    """An engine whose responses differ in length; `completion_tokens` counts those it completed."""

    completion_tokens = 0

    def __init__(self, seed: int, **fields: Any) -> None:
        super().__init__(**fields)
        self._random = Random(seed)

    @override
    async def _respond(self, path: str, body: dict[str, Any], receive: Any, send: Any) -> None:
        # Taken by the next line: nothing runs in between.
        self.default = script = Script(WORDS[: self._random.randint(1, 20)], counts_prompt=True)
        await super()._respond(path, body, receive, send)
        if path != "/v1/embeddings":
            self.completion_tokens += len(script.tokens) + 1


@dataclass
class LedgerLoad:
    """Sends requests with ids of their own.

    `received` has the tokens of the responses whose last byte was received, `unfinished` the ids of
    the others, and `refused` the number of each error status.
    """

    url: str
    seed: int = 1
    received: dict[str, Tokens] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)
    refused: dict[int, int] = field(default_factory=dict)
    sent: int = 0

    async def send(self, requests: int, connections: int, kinds: Sequence[str] = KINDS) -> None:
        """Send a number of requests on several connections."""
        last = self.sent + requests

        async def work() -> None:
            async with httpx.AsyncClient(base_url=self.url, verify=TLS, timeout=30) as client:
                while self.sent < last:
                    self.sent += 1
                    await self._send_one(client, f"load-{self.sent}", kinds)

        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(work())

    async def _send_one(
        self, client: httpx.AsyncClient, request_id: str, kinds: Sequence[str]
    ) -> None:
        kind = Random(f"{self.seed}/{request_id}").choice(kinds)
        path, body = build_request(kind, request_id)
        headers = {"x-request-id": request_id}
        self.unfinished.add(request_id)
        try:
            if kind == "abort":
                async with client.stream("POST", path, json=body, headers=headers) as response:
                    async for _ in response.aiter_raw():
                        return
            else:
                response = await client.post(path, json=body, headers=headers)
        except httpx.HTTPError:
            await asyncio.sleep(0.01)  # until a killed worker has a successor
            return
        self._note(request_id, response, is_stream=bool(body.get("stream")))

    def _note(self, request_id: str, response: httpx.Response, *, is_stream: bool) -> None:
        if response.status_code != 200:
            self.refused[response.status_code] = self.refused.get(response.status_code, 0) + 1
            return
        if is_stream:
            events = response.text.split("\n\n")
            if events[-2:] != ["data: [DONE]", ""]:
                return  # an error event
            usage = json.loads(events[-3].removeprefix("data: "))["usage"]
        else:
            usage = response.json()["usage"]
        self.unfinished.discard(request_id)
        tokens = Tokens(usage["prompt_tokens"], usage.get("completion_tokens", 0))
        self.received[request_id] = tokens


def build_request(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a request."""
    if kind == "embedding":
        return "/v1/embeddings", {"model": EMBEDDING_MODEL, "input": [text, "again"]}
    if kind == "text":
        return "/v1/completions", {"prompt": [text, "again"], "max_tokens": 50}
    body: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "max_tokens": 50}
    if kind in {"choices", "streamed choices"}:
        body["n"] = 2
    if kind in {"stream", "streamed choices", "abort"}:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return CHAT, body


@dataclass(frozen=True)
class Comparison:
    """Numbers of requests: `missing` and `wrong` ones have no line, or one with other tokens.

    `repeated` have more than one line.
    """

    received: int
    missing: int
    wrong: int
    repeated: int

    @property
    def is_right(self) -> bool:
        """Whether every request whose last byte was received is there exactly once."""
        return not (self.missing or self.wrong or self.repeated)


def compare(load: LedgerLoad, entries: Sequence[UsageEntry]) -> Comparison:
    """Compare what clients received with the lines in the database."""
    found: dict[str, list[Tokens]] = {}
    for entry in entries:
        tokens = Tokens(entry.input_tokens, entry.output_tokens)
        found.setdefault(entry.request_id, []).append(tokens)
    return Comparison(
        len(load.received),
        sum(name not in found for name in load.received),
        sum(found[name] != [tokens] for name, tokens in load.received.items() if name in found),
        sum(len(lines) > 1 for lines in found.values()),
    )


class Ballast:
    """A spool that takes all the room; it belongs to a worker that runs."""

    def __init__(self, state_dir: Path, size: int) -> None:
        self.path, self._lock = create_spool(state_dir / FOLDER)
        with list_segments(self.path)[0].path.open("r+b") as file:
            file.truncate(size)  # sparse

    def remove(self) -> None:
        """Make room."""
        for segment in list_segments(self.path):
            segment.path.unlink()
