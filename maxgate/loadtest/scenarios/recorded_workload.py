"""Recorded workloads: JSONL with `timestamp` and either messages, a prompt, or only lengths.

Timestamps are seconds, or milliseconds if they are large integers (as in the Mooncake traces).
Lengths are `input_length` and `output_length`. `hash_ids` identify blocks of 512 tokens; requests
that start with the same IDs share a prefix, so prefix cache hits are reproduced.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationError
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.loadtest.scenarios.scenario import (
    RecordedWorkload,
    Scenario,
    Turn,
    describe_validation_error,
    read_messages,
)
from maxgate.loadtest.scenarios.synthetic import MAX_PROMPT_TOKENS, Write, prompt_writer

_BLOCK_TOKENS: Final = 512
_RESERVED_FIELDS: Final = frozenset(
    {"timestamp", "input_length", "output_length", "hash_ids", "prompt", "id"}
)


class _LengthRecord(BaseModel):
    """A record that has only lengths."""

    input_length: int = Field(ge=1, le=MAX_PROMPT_TOKENS)
    output_length: int | None = Field(default=None, ge=1)
    hash_ids: list[int | str] = Field(default_factory=list)


@dataclass(frozen=True)
class _LengthWorkload(Scenario):
    """Synthetic prompts with the recorded lengths and shared prefixes."""

    records: Sequence[_LengthRecord]
    write: Write
    arrivals: Sequence[float] | None = None
    live_responses: bool = False

    @override
    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        record = self.records[index % len(self.records)]
        length, parts = record.input_length, []
        for block in record.hash_ids[: length // _BLOCK_TOKENS]:
            parts.append(self.write(_BLOCK_TOKENS, Random(f"block/{block}")))  # noqa: S311
            length -= _BLOCK_TOKENS
        if length or not parts:
            parts.append(self.write(length, rng))
        max_tokens = record.output_length
        fields = {} if max_tokens is None else {"max_tokens": max_tokens}
        return [Turn([{"role": "user", "content": " ".join(parts)}], fields)]


def parse_recorded_workload(
    records: Sequence[Mapping[str, Any]], path: Path, tokenizer: str | None
) -> Scenario:
    """The workload in order of time; the first request leaves at offset 0.

    Raises ConfigurationError for an invalid record.
    """
    try:
        ordered = sorted(records, key=lambda record: float(record["timestamp"]))
        stamps = [float(record["timestamp"]) for record in ordered]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"--scenario {path}: every record needs a numeric timestamp"
        ) from error
    if not all(map(math.isfinite, stamps)):
        raise ConfigurationError(f"--scenario {path}: timestamps must be finite")
    unit = 1e-3 if _are_milliseconds(records) else 1.0
    arrivals = [(stamp - stamps[0]) * unit for stamp in stamps]
    if all("input_length" in record for record in ordered):
        lengths = [_parse_lengths(record, path) for record in ordered]
        return _LengthWorkload(lengths, prompt_writer(tokenizer), arrivals)
    return RecordedWorkload([[_parse_turn(record, path)] for record in ordered], arrivals=arrivals)


def _are_milliseconds(records: Sequence[Mapping[str, Any]]) -> bool:
    stamps = [record["timestamp"] for record in records]
    return all(isinstance(stamp, int) for stamp in stamps) and max(stamps) >= 1000


def _parse_lengths(record: Mapping[str, Any], path: Path) -> _LengthRecord:
    try:
        return _LengthRecord.model_validate(record)
    except ValidationError as error:
        where = f"--scenario {path}: the record at {record['timestamp']}"
        raise ConfigurationError(f"{where}: {describe_validation_error(error)}") from error


def _parse_turn(record: Mapping[str, Any], path: Path) -> Turn:
    where = f"--scenario {path}: the record at {record['timestamp']}"
    if not record.keys() & {"messages", "prompt"}:
        raise ConfigurationError(f"{where}: expected messages, prompt or input_length")
    messages = read_messages(record, where)
    fields = {k: v for k, v in record.items() if k not in _RESERVED_FIELDS | {"messages"}}
    return Turn(messages, fields)
