"""A fake MAX with the same routes and formats, and scripted responses, pauses and failures.

Formats were recorded from a live MAX 26.7. JSON is compact, as MAX writes it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

PROBE_USER = "maxgate-probe"
OUTPUT_TOKENS = ("The", " capital", " of", " France", " is", " Paris", ".")


_ERROR = b'data: {"error":{"message":"boom","type":"","code":"500"}}\n\n'


class Cut(Exception):
    """Raised in the application so that its server drops the connection, as in a crash of MAX."""


@dataclass
class Script:
    """The response to one request.

    With a `status` other than 200, `error` is the whole body. A stream goes silent after
    `silent_after` chunks, is cut off after `cut_after`, and sends an error event after
    `error_after` or an unreadable one after `garbage_after`. A response that is not streamed
    fails in the same way after half of its body. With `resets`, the connection is closed without a
    response. With `stalls_plain`, a response that is not streamed goes silent after half of its
    body. The response starts once `begins`, if given, is set. A prompt that ends with ids of
    `tokens`, which are 1000 and above, is continued after them. With `counts_prompt`, the usage of
    a stream has the length of its prompt instead of a fixed one. `gap` is the time in seconds
    before each token of a stream except its first. `ids` replaces the ids of the tokens. The two
    likeliest tokens differ by `logprob_gap` in their log probability.
    """

    tokens: Sequence[str] = OUTPUT_TOKENS
    finish_reason: str = "stop"
    status: int = 200
    error: bytes = b'{"error":{"message":"Value error."}}'
    silent_after: int | None = None
    cut_after: int | None = None
    error_after: int | None = None
    garbage_after: int | None = None
    resets: bool = False
    stalls_plain: bool = False
    headers: Sequence[tuple[bytes, bytes]] = ()
    with_usage: bool = True
    with_done: bool = True
    begins: asyncio.Event | None = None
    counts_prompt: bool = False
    gap: float = 0.0
    ids: Sequence[int] | None = None
    logprob_gap: float = 0.0


@dataclass
class FakeMax:
    """One engine; `scripts` are used in order, then every response is `default`."""

    models: Sequence[str] = ("smollm2-135m-instruct",)
    context_length: int | None = 8192
    owned_by: str = ""
    scripts: list[Script] = field(default_factory=list)
    default: Script = field(default_factory=Script)
    requests: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    grammar: bool = False
    logprobs: bool = True
    penalties: bool = True
    min_tokens: bool = True
    running: int = 0
    most_running: int = 0
    aborted: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one ASGI connection scope."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["path"] == "/v1/models":
            await _send_json(send, 200, orjson.dumps(self._model_list()))
            return
        body = orjson.loads(await _read(receive))
        if body.get("user") == PROBE_USER:
            await self._respond_to_probe(body, send)
            return
        self.requests.append(body)
        self.paths.append(scope["path"])
        self.headers.append({n.decode(): v.decode() for n, v in scope["headers"]})
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        self.idle.clear()
        self.arrived.set()
        try:
            await self._respond(scope["path"], body, receive, send)
        finally:
            self.running -= 1
            if self.running == 0:
                self.idle.set()

    async def _respond_to_probe(self, body: dict[str, Any], send: Any) -> None:
        rejected = ("response_format" in body and not self.grammar) or (
            "logprobs" in body and not self.logprobs
        )
        penalized = self.penalties and "frequency_penalty" in body
        completion_tokens = 2 if self.min_tokens or "min_tokens" not in body else 1
        response = {
            "choices": [{"text": "b" if penalized else "a", "token_ids": [5, 6]}],
            "usage": {"completion_tokens": completion_tokens},
        }
        await _send_json(send, 400 if rejected else 200, orjson.dumps(response))

    def _model_list(self) -> dict[str, Any]:
        cards = [
            {
                "id": name,
                "object": "model",
                "created": 1,
                "owned_by": self.owned_by,
                "max_model_len": self.context_length,
            }
            for name in self.models
        ]
        return {"object": "list", "data": cards}

    async def _respond(self, path: str, body: dict[str, Any], receive: Any, send: Any) -> None:
        script = self.scripts.pop(0) if self.scripts else self.default
        if script.begins is not None:
            await script.begins.wait()
        if script.resets:
            # The server holds a head with a length back until there is a body.
            headers = [(b"content-length", b"9")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            raise Cut
        if script.status != 200:
            await _send_json(send, script.status, script.error, script.headers)
        elif script.silent_after == 0:
            await self._wait_for_disconnect(receive)
        elif path == "/v1/embeddings":
            await _send_json(send, 200, orjson.dumps(_build_embeddings(body)))
        elif body.get("stream"):
            await self._stream(path, body, script, receive, send)
        else:
            await self._send_whole(
                orjson.dumps(_build_response(path, body, script)), script, receive, send
            )

    async def _send_whole(self, content: bytes, script: Script, receive: Any, send: Any) -> None:
        failures = (script.cut_after, script.error_after, script.garbage_after)
        if not script.stalls_plain and all(after is None for after in failures):
            await _send_json(send, 200, content)
            return
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        half = content[: len(content) // 2]
        if script.garbage_after is not None:
            await send({"type": "http.response.body", "body": half.ljust(len(content), b"?")})
            return
        await send({"type": "http.response.body", "body": half, "more_body": True})
        if not script.stalls_plain:
            raise Cut
        await self._wait_for_disconnect(receive)

    async def _stream(
        self, path: str, body: dict[str, Any], script: Script, receive: Any, send: Any
    ) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        done = _count_generated(body)
        async for number, token in _generate(script, done):
            if number == script.cut_after:
                raise Cut
            if number in {script.error_after, script.garbage_after}:
                event = _ERROR if number == script.error_after else b"data: {\n\n"
                await send({"type": "http.response.body", "body": event})
                return
            if number == script.silent_after:
                await self._wait_for_disconnect(receive)
                return
            last = number == len(script.tokens) - 1
            reason = script.finish_reason if last else None
            chunk = _build_chunk(path, body, number, token, reason, script.ids)
            await _send_event(send, chunk)
        if done == len(script.tokens):
            await _send_event(send, _build_chunk(path, body, done, "", script.finish_reason))
        if script.with_usage:
            prompt = len(_find_prompt(body)) if script.counts_prompt else 37 + done
            await _send_event(send, {"choices": [], "usage": _usage(script, done, prompt)})
        if script.with_done:
            await _send_event(send, None)
        await send({"type": "http.response.body", "body": b""})

    async def _wait_for_disconnect(self, receive: Any) -> None:
        message = await receive()
        assert message["type"] == "http.disconnect"
        self.aborted += 1


async def _generate(script: Script, done: int) -> AsyncIterator[tuple[int, str]]:
    """Yield the tokens after the first `done`, with their numbers and at their times."""
    for number, token in list(enumerate(script.tokens))[done:]:
        if script.gap and number > done:
            await asyncio.sleep(script.gap)
        yield number, token


DIMENSIONS = 384


def _build_embeddings(body: dict[str, Any]) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": create_embedding(ids)}
        for index, ids in enumerate(body["input"])
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return {"object": "list", "data": data[::-1], "model": body["model"], "usage": usage}


def create_embedding(ids: Sequence[int]) -> list[float]:
    """Return the embedding of these ids: not normalized, and different for different ids."""
    return [float(ids[i % len(ids)] % 97) - i % 5 + 0.5 for i in range(DIMENSIONS)]


def _build_response(path: str, body: dict[str, Any], script: Script) -> dict[str, Any]:
    text = "".join(script.tokens)
    choice: dict[str, Any] = {"index": 0, "finish_reason": script.finish_reason}
    if path.endswith("/chat/completions"):
        choice["message"] = {"role": "assistant", "content": text, "refusal": ""}
    else:
        choice["text"] = text
    if body.get("echo"):
        ids = [1000 + number for number in range(len(script.tokens))]
        tops = [{f"#{i}": -0.25} for i in body["prompt"][1:]] + [{t: -0.5} for t in script.tokens]
        values = [value for top in tops for value in top.values()]
        choice["logprobs"] = {"tokens": None, "token_logprobs": values, "top_logprobs": tops}
        choice["token_ids"] = ids
    elif body.get("return_token_ids"):
        choice["token_ids"] = script.ids or [1000 + n for n in range(len(script.tokens))]
    if body.get("logprobs") and "message" in choice:
        top = [
            {"token": token, "logprob": value}
            for token, value in (("a", -0.5), ("b", -0.5 - script.logprob_gap))
        ]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return {"id": "0", "choices": [choice], "usage": _usage(script), "model": body["model"]}


def _build_chunk(
    path: str,
    body: dict[str, Any],
    number: int,
    token: str,
    reason: str | None,
    all_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
    if path.endswith("/chat/completions"):
        choice["delta"] = {"role": "assistant", "content": token}
    else:
        choice["text"] = token
    if body.get("return_token_ids"):
        token_id = 1000 + number if all_ids is None else all_ids[number]
        ids: dict[str, Any] = {"token_ids": [token_id]}
        if number == 0:
            ids["prompt_token_ids"] = _find_prompt(body) or [1, 2, 3]
        choice = {**ids, **choice}
        if body.get("logprobs") and token:
            alternative = {"token": token, "logprob": -number / 8, "bytes": None}
            content = [{**alternative, "top_logprobs": [alternative]}]
            choice["logprobs"] = {"content": content}
    return {"id": "0", "choices": [choice], "usage": None, "model": body["model"]}


def _count_generated(body: dict[str, Any]) -> int:
    """Return how many of the fake's own token ids the prompt ends with, as in a continuation."""
    ids = _find_prompt(body)
    return next((n for n in range(len(ids), 0, -1) if ids[-n:] == [*range(1000, 1000 + n)]), 0)


def _find_prompt(body: dict[str, Any]) -> list[int]:
    """Return the ids of the prompt; none if it is text."""
    ids = body.get("prompt", body.get("prompt_tokens"))
    return ids if isinstance(ids, list) else []


def _usage(script: Script, done: int = 0, prompt: int = 37) -> dict[str, Any]:
    completion = len(script.tokens) + 1 - done
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 5},
    }


async def _send_event(send: Any, data: dict[str, Any] | None) -> None:
    body = b"data: %b\n\n" % (b"[DONE]" if data is None else orjson.dumps(data))
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _send_json(
    send: Any, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    kind = (b"content-type", b"application/json")
    every = [kind, (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            return body


async def _lifespan(receive: Any, send: Any) -> None:
    for _ in range(2):
        message = await receive()
        await send({"type": message["type"] + ".complete"})
