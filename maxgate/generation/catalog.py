"""The models served, and their capabilities."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from maxgate.generation.context import RequestContext
from maxgate.model_cards.card import (
    PromptFormat,
    SamplingDefaults,
    StructuredOutput,
    Task,
    ToolStyle,
)

PromptSource = Literal["gateway", "engine", "unavailable"]
"""Where prompts become token ids; `unavailable` while a required tokenizer is missing.

The gateway encodes the text of users with special tokens disabled, the engine does not.
"""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Optional features of the engines of a model; None means not known yet."""

    grammar: bool | None = None
    logprobs: bool | None = None
    penalties: bool | None = None
    min_tokens: bool | None = None

    @property
    def is_known(self) -> bool:
        """Whether all of them are known."""
        return None not in (self.grammar, self.logprobs, self.penalties, self.min_tokens)

    def or_else(self, other: "Capabilities") -> "Capabilities":
        """Return these capabilities, with those of `other` for the unknown ones."""
        return Capabilities(
            other.grammar if self.grammar is None else self.grammar,
            other.logprobs if self.logprobs is None else self.logprobs,
            other.penalties if self.penalties is None else self.penalties,
            other.min_tokens if self.min_tokens is None else self.min_tokens,
        )


UNKNOWN_CONTEXT: Final = 2**31  # no limit here: the engine enforces one that it does not report


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as the gateway serves it.

    `engine_name` is the engines' name for it. `context_length` limits prompt and response together,
    in tokens, and may be UNKNOWN_CONTEXT. `created` is in seconds since 1970. `structured_output`
    applies to engines without a grammar, `dimensions` to models whose task is embeddings,
    `parse_special` and `prompt_logprobs` to raw prompts.
    """

    name: str
    engine_name: str
    prompt: PromptFormat
    context_length: int
    created: int
    sampling: SamplingDefaults
    capabilities: Capabilities = Capabilities()
    structured_output: StructuredOutput = "refuse"
    tool_style: ToolStyle = "json"
    task: Task = "chat"
    dimensions: int = 0
    prompts: PromptSource = "gateway"
    parse_special: bool = False
    prompt_logprobs: bool = False


class EngineHealth(Protocol):
    """The state of one engine, as reported by `/health` and `/metrics`."""

    @property
    def id(self) -> str:
        """Name in the admin API."""
        ...

    @property
    def url(self) -> str:
        """Base URL."""
        ...

    @property
    def draining(self) -> bool:
        """Whether it gets no new requests."""
        ...

    @property
    def weight(self) -> float:
        """Share of the load relative to the other engines."""
        ...

    @property
    def breaker_states(self) -> dict[str, str]:
        """State of the circuit breaker of each model."""
        ...

    @property
    def state(self) -> str:
        """`unknown`, `healthy` or `unreachable`."""
        ...

    @property
    def software(self) -> str | None:
        """Name of the engine's software; None until it has listed its models."""
        ...

    @property
    def models(self) -> Collection[str]:
        """Names of the models it serves."""
        ...

    @property
    def in_flight(self) -> int:
        """Requests that this worker has sent to it and that have not finished."""
        ...

    @property
    def reported_requests(self) -> int | None:
        """Requests at the engine by its own metrics; None if that is not known."""
        ...

    @property
    def kv_use(self) -> float | None:
        """Used share of its KV cache, from 0 to 1; None if that is not known."""
        ...

    @property
    def watch_failures(self) -> int:
        """Unexpected errors in the gateway while it probed the engine; the probes continue."""
        ...

    @property
    def error(self) -> str | None:
        """Cause of the state `unreachable`."""
        ...

    @property
    def capabilities(self) -> Mapping[str, Capabilities]:
        """Capabilities by model."""
        ...


class ModelStarts(Protocol):
    """Lets requests wait while their models start."""

    async def wait(self, model: str, context: RequestContext, *, size: int) -> None:
        """Return once the model may be ready; look for it again then. `size` is in bytes.

        Raises ModelNotRunning if that takes too long for the request or too many others wait,
        TenantQueueFull, and ModelStartFailed.
        """
        ...


class ModelCatalog(Protocol):
    """The models that clients may name."""

    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        """Return the model with this name or alias; for None, the default model for the task.

        Raises ModelNotFound, WrongModelForTask, and UpstreamUnavailable if no name is given and
        nothing is served, or if a task is given and the tokenizer it requires is missing. Raises
        ModelNotRunning if a task is given and the model has to be started first.
        """
        ...

    def list(self) -> Sequence[ServedModel]:
        """Return all models, the default one first."""
        ...
