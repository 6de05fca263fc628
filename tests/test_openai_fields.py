"""docs/openai-compatibility.md, the code and OpenAI's types have the same fields."""

import re
from pathlib import Path

import pytest
from openai.types import (
    completion_create_params,
    embedding_create_params,
    moderation_create_params,
)
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import BaseModel

from maxgate.api.authentication import CREDENTIAL_HEADERS
from maxgate.api.chat.messages import IGNORED_KEYS
from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.client_headers import ClientHeaders
from maxgate.api.completions.schemas import CompletionRequest
from maxgate.api.embeddings.schemas import EmbeddingRequestBody
from maxgate.api.moderations.schemas import ModerationRequestBody

PAGE = Path(__file__).parents[1] / "docs" / "openai-compatibility.md"
TYPES = {
    "chat/completions": (
        chat_create_params.CompletionCreateParamsStreaming,
        ChatCompletionRequest,
    ),
    "completions": (completion_create_params.CompletionCreateParamsStreaming, CompletionRequest),
    "moderations": (moderation_create_params.ModerationCreateParams, ModerationRequestBody),
    "embeddings": (embedding_create_params.EmbeddingCreateParams, EmbeddingRequestBody),
}
STATES = {"honoured", "emulated", "accepted", "neutral", "refused"}


def read_states(route: str, *, extensions: bool = False) -> dict[str, str]:
    """Read the state of each of OpenAI's fields, or of each extension, from the page."""
    section = PAGE.read_text().split(f"## POST /v1/{route}\n")[1].split("\n## ")[0]
    openai_table, _, rest = section.partition("### Extensions of ")
    table = rest.partition("\n### ")[0] if extensions else openai_table
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE))


@pytest.mark.parametrize("route", TYPES)
def test_fields(route: str) -> None:
    """Every field of OpenAI's type, and every extension, is on the page and in the schema."""
    openai_type, own_type = TYPES[route]
    states, extensions = read_states(route), read_states(route, extensions=True)
    assert set(states) == set(openai_type.__annotations__)
    assert set(extensions) == set(own_type.model_fields) - set(states)
    assert set(states) <= set(own_type.model_fields)
    assert {*states.values(), *extensions.values()} <= STATES


@pytest.mark.parametrize("route", TYPES)
def test_refused_fields(route: str) -> None:
    """The fields that the page calls refused accept only null."""
    _, own_type = TYPES[route]
    assert {
        name for name, state in read_states(route).items() if state == "refused"
    } == list_null_fields(own_type)


def test_ignored_keys() -> None:
    """The page lists the keys that are ignored in histories."""
    section = PAGE.read_text().split("### Histories written by other tools\n")[1]
    keys = re.findall(r"`(\w+)`", section.split("\n\n")[1])
    assert sorted(keys) == sorted(IGNORED_KEYS)


def test_request_headers() -> None:
    """The page lists the headers that the gateway reads."""
    section = PAGE.read_text().split("## Request headers\n\n")[1].split("\n\n")[0]
    names = re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)
    assert {name.lower().encode() for name in names} == (ClientHeaders().names | CREDENTIAL_HEADERS)


def list_null_fields(model: type[BaseModel]) -> set[str]:
    """List the fields that accept only null."""
    return {name for name, field in model.model_fields.items() if field.annotation is type(None)}
