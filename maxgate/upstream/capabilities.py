"""Probe what an engine can do; its start flags cannot be read from outside.

MAX rejects a grammar or logprobs clearly if they are disabled. It accepts and ignores penalties and
`min_tokens`, so only the response shows whether they work: whether the model repeats itself, and
whether it ends at once.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

import orjson

from maxgate.errors import GatewayError, OutOfResources
from maxgate.generation.catalog import Capabilities
from maxgate.upstream.client import EngineClient
from maxgate.upstream.http1.messages import EngineRequest, resolve_route

# MAX ignores `user`; it shows readers of an engine's log where these requests come from.
PROBE_USER: Final = "maxgate-probe"
# Some engines accept `json_object` only; the gateway sends schemas.
_GRAMMAR: Final = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }
}
_REPEATING: Final = "a a a a a a a a a a a a a a a a"
_CHAT: Final[Mapping[str, Any]] = {
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 1,
}


async def probe_capabilities(
    client: EngineClient, url: str, models: Collection[str], *, read_timeout: float
) -> dict[str, Capabilities]:
    """Return the capabilities of each model on the engine at `url`.

    `read_timeout`, in seconds, applies to each probe. A capability whose probe fails is None.

    Raises ExceptionGroup of OutOfResources.
    """
    probe = _CapabilityProbe(client, url, read_timeout)
    return {model: await probe.run(model) for model in models}


class _Response(NamedTuple):
    status: int
    content: bytes


class _CapabilityProbe:
    def __init__(self, client: EngineClient, url: str, timeout: float) -> None:
        self._client = client
        self._url = url
        self._timeout = timeout

    async def run(self, model: str) -> Capabilities:
        async with asyncio.TaskGroup() as tasks:
            grammar = tasks.create_task(self._is_accepted(model, _GRAMMAR))
            logprobs = tasks.create_task(
                self._is_accepted(model, {"logprobs": True, "top_logprobs": 1})
            )
            penalties = tasks.create_task(self._applies_penalties(model))
            min_tokens = tasks.create_task(self._applies_min_tokens(model))
        return Capabilities(
            grammar.result(), logprobs.result(), penalties.result(), min_tokens.result()
        )

    async def _is_accepted(self, model: str, fields: Mapping[str, Any]) -> bool | None:
        response = await self._send("/v1/chat/completions", model, {**_CHAT, **fields})
        return None if response is None else response.status == 200

    async def _applies_penalties(self, model: str) -> bool | None:
        fields = {"prompt": _REPEATING, "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        penalties = {"frequency_penalty": 2, "presence_penalty": 2}
        plain = await self._send("/v1/completions", model, fields)
        penalised = await self._send("/v1/completions", model, {**fields, **penalties})
        if plain is None or penalised is None:
            return None
        return _extract_text(plain.content) != _extract_text(penalised.content)

    async def _applies_min_tokens(self, model: str) -> bool | None:
        # The most likely first token, made a stop token, ends the response unless it is held back.
        fields = {"prompt": _REPEATING, "max_tokens": 2, "temperature": 0, "ignore_eos": True}
        plain = await self._send("/v1/completions", model, {**fields, "return_token_ids": True})
        if plain is None:
            return None
        if (first := _extract_first_token(plain.content)) is None:
            return False  # an engine that reports no token ids cannot be tested
        held_back = {"ignore_eos": False, "stop_token_ids": [first], "min_tokens": 2}
        response = await self._send("/v1/completions", model, {**fields, **held_back})
        return None if response is None else _count_tokens(response.content) == 2

    async def _send(self, path: str, model: str, fields: Mapping[str, Any]) -> _Response | None:
        body = orjson.dumps({"model": model, "user": PROBE_USER, **fields})
        route, timeout = resolve_route(self._url, path), self._timeout
        try:
            request = EngineRequest(route, body, timeout, timeout, timeout)
            async with asyncio.timeout(timeout), await self._client.send(request) as response:
                return _Response(response.status, await response.read())
        except OutOfResources:  # says nothing about the engine, so the probe must be repeated
            raise
        except (GatewayError, TimeoutError):
            return None


def _extract_first_token(content: bytes) -> int | None:
    try:
        return int(orjson.loads(content)["choices"][0]["token_ids"][0])
    except (ValueError, KeyError, IndexError, TypeError):
        return None


def _count_tokens(content: bytes) -> int:
    try:
        return int(orjson.loads(content)["usage"]["completion_tokens"])
    except (ValueError, KeyError, TypeError):
        return 0


def _extract_text(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["choices"][0]["text"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
