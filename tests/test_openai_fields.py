"""docs/openai-compatibility.md, the code and OpenAI's own types name the same fields."""

import re
from pathlib import Path

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from pydantic import BaseModel

from maxgate.api.chat.schemas import ChatCompletionRequest
from maxgate.api.completions.schemas import CompletionRequest
from maxgate.api.embeddings.schemas import EmbeddingRequestBody

PAGE = Path(__file__).parents[1] / "docs" / "openai-compatibility.md"
TYPES = {
    "chat/completions": (
        chat_create_params.CompletionCreateParamsStreaming,
        ChatCompletionRequest,
    ),
    "completions": (completion_create_params.CompletionCreateParamsStreaming, CompletionRequest),
    "embeddings": (embedding_create_params.EmbeddingCreateParams, EmbeddingRequestBody),
}
STATES = {"honoured", "emulated", "accepted", "neutral", "refused"}


def rows(route: str) -> dict[str, str]:
    """Each field of the route and its state, from the page."""
    section = PAGE.read_text().split(f"## POST /v1/{route}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", section, re.MULTILINE))


@pytest.mark.parametrize("route", TYPES)
def test_every_field_of_openai_has_a_row_and_a_place_in_the_code(route: str) -> None:
    theirs, ours = TYPES[route]
    assert set(rows(route)) == set(theirs.__annotations__) == set(ours.model_fields)
    assert set(rows(route).values()) <= STATES


@pytest.mark.parametrize("route", TYPES)
def test_what_the_page_calls_refused_takes_nothing_but_null(route: str) -> None:
    _, ours = TYPES[route]
    assert {name for name, state in rows(route).items() if state == "refused"} == takes_null(ours)


def takes_null(model: type[BaseModel]) -> set[str]:
    """The fields whose only value is null."""
    return {name for name, field in model.model_fields.items() if field.annotation is type(None)}
