"""The messages of a request in a file."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from maxgate.errors import ConfigurationError
from maxgate.tools.loadtest.scenarios.scenario import JSON


def told(error: ValidationError) -> str:
    """What is wrong first, and where."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return ": ".join(filter(None, (where, first["msg"].lower())))


def messages_of(record: Mapping[str, Any], where: str) -> list[JSON]:
    """`messages`, each with a role, or `prompt` as a single one.

    Raises ConfigurationError, which begins with `where`, for anything else.
    """
    messages = record.get("messages")
    if messages is None and isinstance(record.get("prompt"), str):
        messages = [{"role": "user", "content": record["prompt"]}]
    if not isinstance(messages, list) or not messages:
        raise ConfigurationError(f"{where}: expected messages, prompt or conversations")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise ConfigurationError(f"{where}: message {number} has no role")
    return messages
