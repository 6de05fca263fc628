"""Scenarios from files: YAML, a JSONL of messages, ShareGPT, recorded traces.

What a file is, its content says: the first record's fields, not its name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from maxgate.loadtest.scenarios.yaml_scenario import yaml_scenario

_SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "system": "system"}


def scenario_from_file(path: Path, tokenizer: str | None) -> Scenario:
    """The scenario in this file.

    Raises ConfigurationError with the file, the line where there is one, and what is wrong.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"--scenario {path}: {error.strerror}") from error
    if path.suffix in {".yaml", ".yml"}:
        return yaml_scenario(_yaml(text, path), path, tokenizer)
    records = _records(text, path)
    if not records:
        raise ConfigurationError(f"--scenario {path}: there is no request in it")
    if "timestamp" in records[0]:
        return parse_recorded_workload(records, path, tokenizer)
    conversations = [_conversation(record, path, n) for n, record in enumerate(records, 1)]
    found = [turns for turns in conversations if turns]
    if not found:
        raise ConfigurationError(f"--scenario {path}: there is no question in it")
    return RecordedWorkload(found)


def _yaml(text: bytes, path: Path) -> Mapping[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        first = str(error).splitlines()[0]
        raise ConfigurationError(f"--scenario {path}: not YAML: {first}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"--scenario {path}: expected a mapping")
    return value


def _records(text: bytes, path: Path) -> list[dict[str, Any]]:
    """Of a JSON array or of one JSON value per line."""
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
            raise ConfigurationError(f"--scenario {path}: record {number} is no object")
    return found


def _conversation(record: Mapping[str, Any], path: Path, number: int) -> Sequence[Turn]:
    where = f"--scenario {path}: record {number}"
    if "conversations" in record:
        return _sharegpt(record["conversations"], where)
    fields = {k: v for k, v in record.items() if k not in {"messages", "prompt", "id"}}
    return [Turn(read_messages(record, where), fields)]


def _sharegpt(said: object, where: str) -> Sequence[Turn]:
    """A request for every question; the answers before it are the recorded ones."""
    if not isinstance(said, list) or not all(isinstance(part, dict) for part in said):
        raise ConfigurationError(f"{where}: conversations: expected a list of objects")
    history: list[dict[str, Any]] = []
    turns = []
    for part in said:
        role = _SHAREGPT_ROLES.get(str(part.get("from", "")))
        if role is None or not part.get("value"):
            continue
        if not isinstance(part["value"], str):
            raise ConfigurationError(f"{where}: conversations: a value that is no text")
        history = [*history, {"role": role, "content": part["value"]}]
        if role == "user":
            turns.append(Turn(history))
    return turns


def load_scenario(shape: RequestShape) -> Scenario:
    """The scenario that this shape names.

    Raises ConfigurationError where there is none, or its file is broken.
    """
    builtin = builtin_scenarios()
    if shape.scenario in builtin:
        return builtin[shape.scenario]
    if Path(shape.scenario).exists():
        return scenario_from_file(Path(shape.scenario), shape.tokenizer)
    raise ConfigurationError(
        f"--scenario {shape.scenario}: neither a file nor one of {', '.join(builtin)}"
    )
