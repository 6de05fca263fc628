"""Finding out what an engine can do: its flags cannot be read from outside.

MAX refuses a grammar and logprobs clearly where they are switched off. Penalties it accepts and
ignores, so that only the answer tells: repeating itself, or not.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

import httpx
import orjson

from maxgate.generation.catalog import Capabilities

# MAX ignores it; it tells whoever reads an engine's log where these requests come from.
PROBE_USER: Final = "maxgate-probe"
_REPEATING: Final = "a a a a a a a a a a a a a a a a"
_CHAT: Final[Mapping[str, Any]] = {
    "messages": [{"role": "user", "content": "Hi"}],
    "max_tokens": 1,
}


async def probe_capabilities(
    client: httpx.AsyncClient, url: str, models: Collection[str], *, seconds: float
) -> dict[str, Capabilities]:
    """What each of these models can do on the engine; `seconds` is for each question.

    A question that is not answered in time leaves its answer None.
    """
    engine = _Engine(client, url, seconds)
    return {model: await engine.capabilities(model) for model in models}


class _Engine:
    def __init__(self, client: httpx.AsyncClient, url: str, timeout: float) -> None:
        self._client = client
        self._url = url
        self._timeout = timeout

    async def capabilities(self, model: str) -> Capabilities:
        grammar, logprobs, penalties = await asyncio.gather(
            self._accepts(model, {"response_format": {"type": "json_object"}}),
            self._accepts(model, {"logprobs": True, "top_logprobs": 1}),
            self._penalises(model),
        )
        return Capabilities(grammar, logprobs, penalties)

    async def _accepts(self, model: str, fields: Mapping[str, Any]) -> bool | None:
        answer = await self._ask("/v1/chat/completions", model, {**_CHAT, **fields})
        return None if answer is None else answer.status_code == 200

    async def _penalises(self, model: str) -> bool | None:
        fields = {"prompt": _REPEATING, "max_tokens": 12, "temperature": 0, "ignore_eos": True}
        penalties = {"frequency_penalty": 2, "presence_penalty": 2}
        plain = await self._ask("/v1/completions", model, fields)
        penalised = await self._ask("/v1/completions", model, {**fields, **penalties})
        if plain is None or penalised is None:
            return None
        return _text(plain) != _text(penalised)

    async def _ask(self, path: str, model: str, fields: Mapping[str, Any]) -> httpx.Response | None:
        body = orjson.dumps({"model": model, "user": PROBE_USER, **fields})
        try:
            return await self._client.post(
                self._url + path,
                content=body,
                headers={"content-type": "application/json"},
                timeout=self._timeout,
            )
        except httpx.HTTPError:
            return None


def _text(response: httpx.Response) -> str:
    try:
        return str(orjson.loads(response.content)["choices"][0]["text"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
