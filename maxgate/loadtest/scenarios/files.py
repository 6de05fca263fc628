"""Load scenarios: built-in ones, YAML, JSONL with messages, ShareGPT and recorded workloads.

The fields of the first record decide between the JSON formats, not the name of the file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from maxgate.errors import ConfigurationError
from maxgate.loadtest.messages import RequestShape
from maxgate.loadtest.scenarios.recorded_workload import parse_recorded_workload
from maxgate.loadtest.scenarios.scenario import (
    RecordedWorkload,
    Scenario,
    Turn,
    builtin_scenarios,
    read_messages,
)
from maxgate.loadtest.scenarios.yaml_scenario import parse_yaml_scenario

_SHAREGPT_ROLES: Final = {"human": "user", "user": "user", "gpt": "assistant", "system": "system"}


def read_scenario(path: Path, tokenizer: str | None) -> Scenario:
    """The scenario in this file.

    Raises ConfigurationError with the file, the line if known, and the problem.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--scenario {path}: {error.strerror}") from error
    if path.suffix in {".yaml", ".yml"}:
        return parse_yaml_scenario(_parse_yaml(text, path), path, tokenizer)
    records = _parse_records(text, path)
    if not records:
        raise ConfigurationError(f"--scenario {path}: the file contains no request")
    if "timestamp" in records[0]:
        return parse_recorded_workload(records, path, tokenizer)
    conversations = [_parse_conversation(record, path, n) for n, record in enumerate(records, 1)]
    found = [turns for turns in conversations if turns]
    if not found:
        raise ConfigurationError(f"--scenario {path}: the file contains no user message")
    return RecordedWorkload(found)


def _parse_yaml(text: bytes, path: Path) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise ConfigurationError(f"--scenario {path}: invalid YAML: {first}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"--scenario {path}: expected a mapping with the key requests")
    return value


def _parse_records(text: bytes, path: Path) -> list[dict[str, Any]]:
    """The records of a JSON array, or of one JSON value per line."""
    if text.lstrip().startswith(b"["):
        lines: list[tuple[int, bytes]] = [(1, text)]
    else:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    found: list[Any] = []
    for number, line in lines:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ConfigurationError(f"--scenario {path}:{number}: {error}") from error
        found += value if isinstance(value, list) and len(lines) == 1 else [value]
    for number, record in enumerate(found, 1):
        if isinstance(record, list):
            found[number - 1] = {"messages": record}
        elif not isinstance(record, dict):
            raise ConfigurationError(f"--scenario {path}: record {number} is not an object")
    return found


def _parse_conversation(record: Mapping[str, Any], path: Path, number: int) -> Sequence[Turn]:
    where = f"--scenario {path}: record {number}"
    if "conversations" in record:
        return _parse_sharegpt(record["conversations"], where)
    fields = {k: v for k, v in record.items() if k not in {"messages", "prompt", "id"}}
    return [Turn(read_messages(record, where), fields)]


def _parse_sharegpt(parts: object, where: str) -> Sequence[Turn]:
    """One request for every user message, after the recorded conversation before it."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ConfigurationError(f"{where}: conversations: expected a list of objects")
    history: list[dict[str, Any]] = []
    turns = []
    for part in parts:
        role = _SHAREGPT_ROLES.get(str(part.get("from", "")))
        if role is None or not part.get("value"):
            continue
        if not isinstance(part["value"], str):
            raise ConfigurationError(f"{where}: conversations: value must be a string")
        history = [*history, {"role": role, "content": part["value"]}]
        if role == "user":
            turns.append(Turn(history))
    return turns


def load_scenario(shape: RequestShape) -> Scenario:
    """The scenario of the shape: a built-in name or a file. Raises ConfigurationError."""
    builtin = builtin_scenarios()
    if shape.scenario in builtin:
        return builtin[shape.scenario]
    if Path(shape.scenario).exists():
        return read_scenario(Path(shape.scenario), shape.tokenizer)
    raise ConfigurationError(
        f"--scenario {shape.scenario}: not a file, nor one of {', '.join(builtin)}"
    )
