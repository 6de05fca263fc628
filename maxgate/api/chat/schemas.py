"""OpenAI's chat completion request.

Shapes follow `CreateChatCompletionRequest` in OpenAI's API description.
docs/openai-compatibility.md lists the support of each field.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Discriminator, Field, Tag

from maxgate.api.chat.messages import (
    MAX_PARTS,
    MAX_TOOLS,
    ChatMessage,
    FunctionName,
    TextPart,
)
from maxgate.api.sampling import SampledRequest, TokenLimit
from maxgate.api.schemas import (
    EmptyObject,
    JsonSchema,
    Metadata,
    RequestBody,
    TemplateVariables,
    Unsupported,
)

_MAX_MESSAGES: Final = 10_000


class FunctionDefinition(RequestBody):
    """A function that the model may call; without `parameters`, it takes none."""

    name: FunctionName
    description: Annotated[str, Field(max_length=16_384)] | None = None
    parameters: JsonSchema | None = None
    strict: bool | None = None


class ToolDefinition(RequestBody):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(RequestBody):
    """The name of a function."""

    name: FunctionName


class NamedToolChoice(RequestBody):
    """Forces a call of one tool."""

    type: Literal["function"]
    function: NamedFunction


def _discriminate_choice(value: Any) -> str:
    return "a-tool" if isinstance(value, dict) else "a-word"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("a-word")]
    | Annotated[NamedToolChoice, Tag("a-tool")],
    Discriminator(_discriminate_choice),
]
"""Whether tools are called, or which one; tags are not field names."""


class NamedSchema(RequestBody):
    """The schema of a structured response."""

    name: FunctionName
    description: str | None = None
    schema_: Annotated[JsonSchema | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextFormat(RequestBody):
    """Plain text."""

    type: Literal["text"]


class JsonObjectFormat(RequestBody):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchemaFormat(RequestBody):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class PredictedContent(RequestBody):
    """The expected response; only a hint for speed."""

    type: Literal["content"]
    content: str | Annotated[list[TextPart], Field(max_length=MAX_PARTS, fail_fast=True)]


class ChatCompletionRequest(SampledRequest):
    """A chat completion request; `model` defaults to the first chat model."""

    messages: Annotated[
        list[ChatMessage], Field(min_length=1, max_length=_MAX_MESSAGES, fail_fast=True)
    ]
    max_tokens: TokenLimit | None = None
    max_completion_tokens: TokenLimit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[ToolDefinition], Field(max_length=MAX_TOOLS, fail_fast=True)] | None = (
        None
    )
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    metadata: Metadata | None = None

    # Accepted without effect: their effect at OpenAI is not visible to clients.
    prediction: PredictedContent | None = None
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None

    # Only the values that change nothing.
    logit_bias: EmptyObject | None = None
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    reasoning_effort: Literal["none"] | None = None
    store: Literal[False] | None = None
    verbosity: Literal["medium"] | None = None

    add_generation_prompt: Literal[True] | None = None
    continue_final_message: Literal[False] | None = None

    chat_template_kwargs: TemplateVariables | None = None

    audio: Unsupported = None
    function_call: Unsupported = None
    functions: Unsupported = None
    moderation: Unsupported = None
    web_search_options: Unsupported = None
