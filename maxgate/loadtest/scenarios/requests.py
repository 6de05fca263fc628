"""Build the body of every request from the seed and its index."""

import hashlib
from collections.abc import Sequence
from random import Random

import orjson

from maxgate.loadtest.messages import RequestShape
from maxgate.loadtest.scenarios.scenario import JSON, Scenario, Turn


class RequestSource:
    """Builds the same bytes for the same shape, scenario and index, in every process."""

    def __init__(self, shape: RequestShape, scenario: Scenario) -> None:
        self._shape, self._scenario = shape, scenario
        self.live_responses = scenario.live_responses
        self.stream = shape.stream

    def conversation(self, index: int) -> Sequence[Turn]:
        """The turns of the conversation with this index."""
        return self._scenario.conversation(index, Random(f"{self._shape.seed}/{index}"))  # noqa: S311

    def count_turns(self, total: int) -> list[int]:
        """The turns of the first conversations, until they have `total` turns together."""
        if self._scenario.single_turn:
            return [1] * total
        turns: list[int] = []
        left = total
        while left > 0:
            turns.append(min(left, len(self.conversation(len(turns)))))
            left -= turns[-1]
        return turns

    def body(
        self,
        turn: Turn,
        index: int,
        *,
        model: str | None,
        side: int = 0,
        responses: Sequence[str] = (),
    ) -> bytes:
        """The JSON of one request; `responses` are the model's own to the previous turns.

        Both sides of a pair differ only in the nonce, because they may share a prefix cache.
        """
        messages = _fill_responses(turn.messages, responses)
        if self._shape.nonce is not None:
            messages = _add_nonce(messages, f"[{self._shape.nonce}-{index}-{side}] ")
        return orjson.dumps(
            self._fields(turn)
            | {"messages": messages}
            | ({} if model is None else {"model": model})
        )

    def fingerprint(self) -> str:
        """SHA-256 of the first 1,000 conversations, without model and nonce."""
        digest = hashlib.sha256()
        for index in range(1000):
            for turn in self.conversation(index):
                digest.update(orjson.dumps(self._fields(turn) | {"messages": turn.messages}))
        return digest.hexdigest()

    def _fields(self, turn: Turn) -> JSON:
        fields: JSON = {"temperature": 0}
        if self._shape.max_tokens is not None:
            fields["max_tokens"] = self._shape.max_tokens
        if self._shape.stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
        return fields | dict(turn.fields) | self._shape.extra


def _add_nonce(messages: Sequence[JSON], nonce: str) -> list[JSON]:
    first = messages[0]
    if isinstance(first.get("content"), str):
        return [{**first, "content": nonce + first["content"]}, *messages[1:]]
    return [{"role": "system", "content": nonce}, *messages]


def _fill_responses(messages: Sequence[JSON], responses: Sequence[str]) -> list[JSON]:
    """Fill the empty assistant messages with the model's own responses."""
    left = iter(responses)
    return [
        {**message, "content": next(left, "")}
        if message["role"] == "assistant"
        and message.get("content") is None
        and "tool_calls" not in message
        else message
        for message in messages
    ]
