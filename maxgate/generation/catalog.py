"""Which models can be asked for right now."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from maxgate.model_cards.card import (
    PromptFormat,
    SamplingDefaults,
    StructuredOutput,
    Task,
    ToolStyle,
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the engines of a model can do beyond generating; None where that is not known yet."""

    grammar: bool | None = None
    logprobs: bool | None = None
    penalties: bool | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as the gateway serves it.

    `engine_name` is what the engines call it. `context_length` counts prompt and answer in
    tokens. `created` is seconds since 1970. `structured_output` says what is done where the engine
    has no grammar, `dimensions` how long a vector is, for models whose task is embeddings.
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


class EngineHealth(Protocol):
    """The state of one engine, as reported by `/health` and `/metrics`."""

    @property
    def url(self) -> str:
        """Base URL."""
        ...

    @property
    def state(self) -> str:
        """`unknown`, `healthy` or `unreachable`."""
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
    def error(self) -> str | None:
        """Cause of the state `unreachable`."""
        ...

    @property
    def capabilities(self) -> Mapping[str, Capabilities]:
        """Capabilities by model."""
        ...


class ModelCatalog(Protocol):
    """The models that clients may name."""

    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        """The model of this name or alias, or the default one for None.

        With `task`, one that does this. Raises ModelNotFound, WrongModelForTask, or
        UpstreamUnavailable where no name was given and nothing is served.
        """
        ...

    def list(self) -> Sequence[ServedModel]:
        """All of them, the default one first."""
        ...
