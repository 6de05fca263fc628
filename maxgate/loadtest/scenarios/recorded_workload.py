"""RecordedWorkload traces: JSONL with `timestamp` and either messages, a prompt, or only lengths.

Timestamps are seconds, or milliseconds where they are large whole numbers (as in Mooncake's
traces). Lengths are `input_length` and `output_length`; `hash_ids` name blocks of 512 tokens that
requests share from the front, so that a prefix cache finds what it found then.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from pydantic import BaseModel, Field, ValidationError

from maxgate.errors import ConfigurationError
from maxgate.loadtest.scenarios.scenario import RecordedWorkload, Turn, read_messages, told
from maxgate.loadtest.scenarios.synthetic import MAX_PROMPT_TOKENS, Write, prompt_writer

_BLOCK: Final = 512
_OWN: Final = frozenset({"timestamp", "input_length", "output_length", "hash_ids", "prompt", "id"})


class _Asked(BaseModel):
    """One record that has only lengths."""

    input_length: int = Field(ge=1, le=MAX_PROMPT_TOKENS)
    output_length: int | None = Field(default=None, ge=1)
    hash_ids: list[int | str] = Field(default_factory=list)


@dataclass(frozen=True)
class _Lengths:
    """Synthetic prompts with the lengths and shared prefixes of a trace."""

    records: Sequence[_Asked]
    write: Write
    arrivals: Sequence[float] | None
    live_responses: bool = False

    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        """See Scenario."""
        record = self.records[index % len(self.records)]
        length, parts = record.input_length, []
        for block in record.hash_ids[: length // _BLOCK]:
            parts.append(self.write(_BLOCK, Random(f"block/{block}")))  # noqa: S311
            length -= _BLOCK
        if length or not parts:
            parts.append(self.write(length, rng))
        asked = record.output_length
        fields = {} if asked is None else {"max_tokens": asked}
        return [Turn([{"role": "user", "content": " ".join(parts)}], fields)]


def parse_recorded_workload(
    records: Sequence[Mapping[str, Any]], path: Path, tokenizer: str | None
) -> "RecordedWorkload | _Lengths":
    """In order of time; the first request leaves at once.

    Raises ConfigurationError for a record that is neither of the kinds above.
    """
    try:
        ordered = sorted(records, key=lambda record: float(record["timestamp"]))
        stamps = [float(record["timestamp"]) for record in ordered]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"--scenario {path}: a record without a timestamp") from error
    if not all(map(math.isfinite, stamps)):
        raise ConfigurationError(f"--scenario {path}: a timestamp that is no time")
    unit = 1e-3 if _are_milliseconds(records) else 1.0
    arrivals = [(stamp - stamps[0]) * unit for stamp in stamps]
    if all("input_length" in record for record in ordered):
        asked = [_asked(record, path) for record in ordered]
        return _Lengths(asked, prompt_writer(tokenizer), arrivals)
    return RecordedWorkload([[_turn(record, path)] for record in ordered], arrivals=arrivals)


def _are_milliseconds(records: Sequence[Mapping[str, Any]]) -> bool:
    stamps = [record["timestamp"] for record in records]
    return all(isinstance(stamp, int) for stamp in stamps) and max(stamps) >= 1000


def _asked(record: Mapping[str, Any], path: Path) -> _Asked:
    try:
        return _Asked.model_validate(record)
    except ValidationError as error:
        raise ConfigurationError(
            f"--scenario {path}: the record of {record['timestamp']}: {told(error)}"
        ) from error


def _turn(record: Mapping[str, Any], path: Path) -> Turn:
    where = f"--scenario {path}: the record of {record['timestamp']}"
    if not record.keys() & {"messages", "prompt"}:
        raise ConfigurationError(f"{where}: a record without messages, prompt or lengths")
    messages = read_messages(record, where)
    fields = {k: v for k, v in record.items() if k not in _OWN | {"messages"}}
    return Turn(messages, fields)
