"""Scenarios in YAML; docs/load-testing.md has an example of every kind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.loadtest.scenarios.scenario import (
    Mixture,
    RecordedWorkload,
    Scenario,
    Turn,
    describe_validation_error,
    read_messages,
)
from maxgate.loadtest.scenarios.synthetic import MAX_PROMPT_TOKENS, Write, prompt_writer


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Range(_Strict):
    low: int = Field(ge=1, le=MAX_PROMPT_TOKENS)
    high: int = Field(ge=1, le=MAX_PROMPT_TOKENS)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("low must not be above high")
        return self


class _Part(_Strict):
    """A part with exactly one of `messages`, `turns` and `synthetic`."""

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    messages: list[dict[str, Any]] | None = None
    turns: list[str] | None = Field(default=None, min_length=1)
    system: str | None = None
    answers: list[str] | None = None
    synthetic: _Range | None = None
    shared_prefix: int = Field(default=0, ge=0, le=MAX_PROMPT_TOKENS)
    prefixes: int = Field(default=1, ge=1)
    fields: dict[str, Any] = Field(default_factory=dict)

    @field_validator("synthetic", mode="before")
    @classmethod
    def _expand_number(cls, value: object) -> object:
        return {"low": value, "high": value} if isinstance(value, int) else value


class _File(_Strict):
    name: str | None = None
    requests: list[_Part] = Field(min_length=1)


@dataclass(frozen=True)
class _Synthetic(Scenario):
    """Prompts of random length after one of several shared prefixes."""

    part: _Part
    lengths: _Range
    write: Write
    live_responses: bool = False
    arrivals: Sequence[float] | None = None

    @override
    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        part = self.part
        low, high = self.lengths.low, self.lengths.high
        text = self.write(low if low == high else rng.randint(low, high), rng)
        messages = [{"role": "user", "content": text}]
        if part.shared_prefix:
            prefix_rng = Random(f"prefix/{rng.randrange(part.prefixes)}")  # noqa: S311
            prefix = self.write(part.shared_prefix, prefix_rng)
            messages.insert(0, {"role": "system", "content": prefix})
        return [Turn(messages, part.fields)]


def parse_yaml_scenario(data: Mapping[str, Any], path: Path, tokenizer: str | None) -> Scenario:
    """A mixture of all parts. Raises ConfigurationError with the invalid field."""
    try:
        file = _File.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(
            f"--scenario {path}: {describe_validation_error(error)}"
        ) from error
    parts = [
        _build_part(part, f"--scenario {path}: requests.{number}", tokenizer)
        for number, part in enumerate(file.requests)
    ]
    live = any(part.live_responses for part in parts)
    return Mixture(parts, [part.weight for part in file.requests], live_responses=live)


def _build_part(part: _Part, where: str, tokenizer: str | None) -> Scenario:
    kinds = [part.messages, part.turns, part.synthetic]
    if sum(kind is not None for kind in kinds) != 1:
        raise ConfigurationError(f"{where}: expected exactly one of messages, turns and synthetic")
    if part.synthetic is not None:
        return _Synthetic(part, part.synthetic, prompt_writer(tokenizer))
    if part.messages is not None:
        messages = read_messages({"messages": part.messages}, where)
        return RecordedWorkload([[Turn(messages, part.fields)]])
    return _build_conversation(part)


def _build_conversation(part: _Part) -> Scenario:
    """A conversation; without `answers`, it contains the model's own responses."""
    history: list[dict[str, Any]] = []
    if part.system is not None:
        history.append({"role": "system", "content": part.system})
    turns = []
    for number, question in enumerate(part.turns or ()):
        history = [*history, {"role": "user", "content": question}]
        turns.append(Turn(history, part.fields))
        answers = part.answers or []
        answer = answers[number] if number < len(answers) else None
        history = [*history, {"role": "assistant", "content": answer}]
    return RecordedWorkload([turns], live_responses=part.answers is None)
