"""Datasets of chat requests: OpenAI messages, prompts, OpenAI batch files and ShareGPT.

The fields of a record decide its format. Whatever is left out or changed is counted and reported.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.loadtest.scenarios.scenario import JSON, Scenario, Turn, read_messages
from maxgate.loadtest.scenarios.source_file import SourceRecord

Notes = Counter[str]
"""Numbers of left-out or changed parts, by what happened to them."""

_SHAREGPT_ROLES: Final = {
    "user": "human user prompter",
    "assistant": (
        "gpt assistant chatgpt bing bard gemini claude llama model bot ai chatbot gpt4 gpt-4 "
        "function_call tool_call"
    ),
    "system": "system developer",
    "tool": "tool tool_response function function_response observation ipython",
}
_ROLE_BY_NAME: Final = {
    name: role for role, names in _SHAREGPT_ROLES.items() for name in names.split()
}
_OWN_FIELDS: Final = frozenset(
    {"messages", "prompt", "id", "timestamp", "input_length", "output_length", "hash_ids"}
)
_MAX_NOTES: Final = 12
_MAX_TURNS: Final = 2000  # each request repeats all turns before it
_CHAT_PATH: Final = "/chat/completions"


@dataclass(frozen=True)
class Dataset(Scenario):
    """Records that are parsed again for each request: their bytes take the least memory."""

    texts: Sequence[bytes]
    arrivals: Sequence[float] | None = None
    summary: Sequence[str] = ()
    live_responses: bool = False

    @override
    def conversation(self, index: int, rng: Random) -> Sequence[Turn]:
        text = self.texts[index % len(self.texts)]
        return parse_conversation(orjson.loads(text), "", Notes())


def read_dataset(records: Iterable[SourceRecord], name: str) -> Dataset:
    """All records that have a user message. Raises ConfigurationError for an invalid record."""
    notes, texts, count = Notes(), [], 0
    for record in records:
        count += 1
        if parse_conversation(record.value, record.where, notes):
            texts.append(record.text)
        else:
            notes["records without a user message, skipped"] += 1
    if not texts:
        skipped = "; ".join(describe_notes(notes))
        reason = f"contains no user message: {skipped}" if count else "contains no request"
        raise ConfigurationError(f"{name}: the file {reason}")
    if not notes:
        return Dataset(texts)
    kept = f"records used: {len(texts):,} of {count:,}"
    return Dataset(texts, summary=(f"{name.split(' ', 1)[1]}: {kept}", *describe_notes(notes)))


def describe_notes(notes: Notes) -> list[str]:
    """One line for each kind, the most frequent first."""
    return [f"{text}: {count:,}" for text, count in notes.most_common(_MAX_NOTES)]


def parse_conversation(value: object, where: str, notes: Notes) -> Sequence[Turn]:
    """The requests of one record; adds to `notes`. Raises ConfigurationError."""
    record = {"messages": value} if isinstance(value, list) else value
    if not isinstance(record, dict):
        raise ConfigurationError(f"{where}: expected an object or a list of messages")
    for key in ("conversations", "conversation"):
        if key in record:
            return _parse_sharegpt(record[key], f"{where}: {key}", notes)
    if {"custom_id", "body"} <= record.keys():
        record = _unwrap_batch(record, where)
    messages = read_messages(record, where)
    fields = {k: v for k, v in record.items() if k not in _OWN_FIELDS}
    length = record.get("output_length")
    if type(length) is int and length > 0:
        fields.setdefault("max_tokens", length)
    return [Turn(_drop_final_response(messages, fields, notes), fields)]


def _unwrap_batch(record: Mapping[str, Any], where: str) -> JSON:
    """The body of one line of an OpenAI batch file, for the endpoint of chat completions."""
    url, body = record.get("url", _CHAT_PATH), record["body"]
    if not isinstance(url, str) or not url.endswith(_CHAT_PATH):
        raise ConfigurationError(
            f"{where}: url {str(url)[:60]!r}: "
            "only batch requests to /v1/chat/completions can be sent"
        )
    if not isinstance(body, dict):
        raise ConfigurationError(f"{where}: body: expected an object with messages")
    return body


def _drop_final_response(messages: list[JSON], fields: JSON, notes: Notes) -> list[JSON]:
    """Without the reference answer that records for training end with."""
    if fields.get("continue_final_message") or fields.get("add_generation_prompt") is False:
        return messages
    kept = list(messages)
    while len(kept) > 1 and kept[-1]["role"] == "assistant":
        del kept[-1]
    if len(kept) < len(messages):
        notes["records that end with an assistant message, which is not sent"] += 1
    return kept


def _parse_sharegpt(parts: object, where: str, notes: Notes) -> Sequence[Turn]:
    """One request for every user or tool message, after the recorded conversation before it."""
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise ConfigurationError(f"{where}: expected a list of objects")
    if len(parts) > _MAX_TURNS:
        raise ConfigurationError(f"{where}: {len(parts)} turns are more than {_MAX_TURNS}")
    history: list[JSON] = []
    turns = []
    for number, part in enumerate(parts, 1):
        message = _map_sharegpt_turn(part, f"{where}: turn {number}", notes)
        if message is None:
            continue
        history = [*history, message]
        if message["role"] == "user":
            turns.append(Turn(history))
    return turns


def _map_sharegpt_turn(part: Mapping[str, Any], where: str, notes: Notes) -> JSON | None:
    """The turn as a message; None if it is skipped."""
    name = str(part.get("from", part.get("role", "")))[:40]
    text = part.get("value", part.get("content"))
    role = _ROLE_BY_NAME.get(name.strip().lower())
    if role is None or not text:
        reason = f"with the unknown role {name!r}" if role is None else "without text"
        notes[f"turns {reason}, skipped"] += 1
        return None
    if not isinstance(text, str):
        raise ConfigurationError(f"{where}: value must be a string")
    if role == "tool":
        # A tool message needs the ID of a tool call, which these datasets do not have.
        notes[f"turns of the role {name!r}, sent as user messages"] += 1
        role = "user"
    return {"role": role, "content": text}
