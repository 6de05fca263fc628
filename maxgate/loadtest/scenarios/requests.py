"""The bytes of every request, from the seed and the index."""

import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any

import orjson

from maxgate.loadtest.messages import RequestShape
from maxgate.loadtest.scenarios.scenario import Scenario, Turn


class RequestSource:
    """The same shape and scenario give the same bytes for the same index, everywhere."""

    def __init__(self, shape: RequestShape, scenario: Scenario) -> None:
        self._shape, self._scenario = shape, scenario
        self.live_responses = scenario.live_responses
        self.stream = shape.stream

    def conversation(self, index: int) -> Sequence[Turn]:
        """The turns of the conversation with this index."""
        return self._scenario.conversation(index, Random(f"{self._shape.seed}/{index}"))  # noqa: S311

    def body(
        self,
        turn: Turn,
        index: int,
        *,
        model: str | None,
        side: int = 0,
        responses: Sequence[str] = (),
    ) -> bytes:
        """The JSON of one request; `responses` are those of the turns before, where they are live.

        Both sides of a pair get the same, but for the nonce: they may share a prefix cache.
        """
        messages = _with_responses(turn.messages, responses)
        if self._shape.nonce is not None:
            messages = _with_nonce(messages, f"[{self._shape.nonce}-{index}-{side}] ")
        return orjson.dumps(self._fields(turn) | {"messages": messages} | _model(model))

    def fingerprint(self) -> str:
        """SHA-256 over the first 1,000 conversations, without model and nonce."""
        digest = hashlib.sha256()
        for index in range(1000):
            for turn in self.conversation(index):
                digest.update(orjson.dumps(self._fields(turn) | {"messages": turn.messages}))
        return digest.hexdigest()

    def _fields(self, turn: Turn) -> dict[str, Any]:
        fields: dict[str, Any] = {"temperature": 0}
        if self._shape.max_tokens is not None:
            fields["max_tokens"] = self._shape.max_tokens
        if self._shape.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return fields | dict(turn.fields) | self._shape.extra


def _model(model: str | None) -> dict[str, str]:
    return {} if model is None else {"model": model}


def _with_nonce(messages: Sequence[dict[str, Any]], nonce: str) -> list[dict[str, Any]]:
    first = messages[0]
    if isinstance(first.get("content"), str):
        return [{**first, "content": nonce + first["content"]}, *messages[1:]]
    return [{"role": "system", "content": nonce}, *messages]


def _with_responses(
    messages: Sequence[dict[str, Any]], responses: Sequence[str]
) -> list[dict[str, Any]]:
    """Fill the places that were left for the model's own responses."""
    left = iter(responses)
    return [
        {**message, "content": next(left, "")} if _awaits_answer(message) else message
        for message in messages
    ]


def _awaits_answer(message: dict[str, Any]) -> bool:
    said = message.get("content") is not None or "tool_calls" in message
    return message["role"] == "assistant" and not said
