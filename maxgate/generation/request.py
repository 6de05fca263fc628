"""Generation requests, independent of any wire format."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Self

import orjson

from maxgate.generation.catalog import ServedModel
from maxgate.generation.context import RequestContext

Role = Literal["system", "user", "assistant", "tool"]


class ToolCall(NamedTuple):
    """A call made earlier in the dialogue; `arguments` is JSON text as the client sent it."""

    id: str
    name: str
    arguments: str


class Message(NamedTuple):
    """One turn; `parts` are its pieces of text, in order, each encoded by itself.

    `calls` follow the text of an assistant message.
    """

    role: Role
    parts: tuple[str, ...]
    calls: tuple[ToolCall, ...] = ()


class Tool(NamedTuple):
    """A function that the model may call; `parameters` is a JSON schema of an object.

    With `strict`, calls whose arguments do not match the schema are rejected.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False


class ToolUse(NamedTuple):
    """The tools of a request.

    One of the tools named in `forced` must be called; if it is empty, the model decides.
    """

    tools: tuple[Tool, ...]
    forced: tuple[str, ...] = ()
    parallel: bool = True


class JsonOutput(NamedTuple):
    """A response in JSON; it must match `schema`, {} means any object."""

    schema: Mapping[str, Any]
    name: str = ""
    description: str = ""


class TokenIds(NamedTuple):
    """Token ids in the form in which they are sent to the engine.

    `json` is the inside of a JSON array, such as `b"128000,9906"`. Prompts are joined from cached
    pieces; as bytes, a piece is neither copied number by number nor serialised twice.
    """

    json: bytes
    length: int

    @classmethod
    def of(cls, ids: list[int]) -> Self:
        """Serialise the ids."""
        return cls(orjson.dumps(ids)[1:-1], len(ids))

    @classmethod
    def join(cls, pieces: Iterable[Self]) -> Self:
        """Concatenate the pieces."""
        filled = [piece for piece in pieces if piece.length]
        return cls(b",".join([p.json for p in filled]), sum([p.length for p in filled]))

    def to_list(self) -> list[int]:
        """Return the ids as numbers."""
        ids: list[int] = orjson.loads(b"[%b]" % self.json)
        return ids


class Sampling(NamedTuple):
    """How tokens are sampled and when to stop.

    Without `max_tokens`, the model's default or the context length is the limit; without `seed`,
    it is random. `logprobs` is the number of alternatives returned for each token: 0 returns the
    token's own logprob only, None returns no logprobs.

    `top_k`, `min_p` and `repetition_penalty` are None for the engine's default. Before `min_tokens`
    tokens, the model cannot end its turn; with `ignore_eos` it never does. `stop_token_ids` end the
    response in addition to the tokens of the prompt format.
    """

    temperature: float
    top_p: float
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logprobs: int | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()

    def with_seed_offset(self, offset: int) -> "Sampling":
        """Shift the seed by `offset`; without a seed, return self."""
        return self if self.seed is None or offset == 0 else self._replace(seed=self.seed + offset)


class GenerationRequest(NamedTuple):
    """A request for `n` choices.

    The prompt is `messages`, or `raw_prompt` (text or token ids) if given; with `parse_special`,
    names of special tokens in such a text become those tokens. `prefix` is text that
    the response is forced to start with; it needs a prompt format known to the gateway.

    `template_variables` are for the chat template of an engine that formats the prompt. With
    `running_usage`, each chunk of a stream carries the usage so far.

    With `prompt_logprobs`, the one chunk of the response also carries the logprobs of the prompt;
    such a request is never streamed, and its `max_tokens` may be 0.

    With `echo`, the response starts with the raw prompt.

    With `with_token_ids`, chunks carry the ids of the generated tokens, if the engine reports them.

    The prompts layer fills in `prompt_token_ids` and `stop_token_ids`. Below that layer, a request
    without `prompt_token_ids` is formatted by the engine. `grammar` is a JSON schema for the
    engine's constrained decoding.
    """

    model: ServedModel
    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool
    context: RequestContext
    n: int = 1
    raw_prompt: str | tuple[int, ...] | None = None
    parse_special: bool = False
    prefix: str = ""
    tool_use: ToolUse | None = None
    output: JsonOutput | None = None
    prompt_token_ids: TokenIds | None = None
    stop_token_ids: tuple[int, ...] = ()
    grammar: Mapping[str, Any] | None = None
    template_variables: Mapping[str, Any] | None = None
    running_usage: bool = False
    prompt_logprobs: bool = False
    with_token_ids: bool = False
    echo: bool = False
