"""Model cards: a model's names, prompt format, defaults and MAX flags, from `models/*.yaml`.

The docstring of each field is its text in docs/model-cards.md.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from maxgate.errors import ConfigurationError

PromptFormat = Literal["llama3", "chatml", "engine"]
StructuredOutput = Literal["refuse", "retry"]
ToolStyle = Literal["json", "python_list", "function_tag"]
Task = Literal["chat", "embeddings", "moderation"]
Load = Literal["always", "on_demand"]
_PENALTIES_FLAG: Final = "--enable-penalties"
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w./:@+-]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Files in an installed Python package, for `maxgate models prepare NAME`."""

    package: str
    """Python package that contains the model."""
    file: str | None = None
    """GGUF file in the package."""
    directory: str | None = None
    """Directory in the package that `max serve` loads as it is; set it or `source.file`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.file is None) == (self.directory is None):
            raise ValueError("set either `file` or `directory`")
        return self


class SamplingDefaults(_Section):
    """Defaults for fields that a request omits; OpenAI's unless the card sets others.

    Without them, MAX would use the checkpoint's generation_config.json, so two checkpoints of one
    model would respond differently.
    """

    temperature: float = Field(default=1.0, ge=0, le=2)
    """Temperature of requests that set none."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """`top_p` of requests that set none."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Token limit of responses to requests that set none; by default the context length."""


class MaxFlags(_Section):
    """Flags of `max serve`, and the image and memory that it needs."""

    model_path: str
    """Directory, name of a model in the models folder, or Hugging Face repository."""
    weight_path: str | None = None
    """File with the weights, if it is not in `max.model_path`."""
    encoding: str | None = None
    """Encoding of the weights, such as `bfloat16`; prepared models have their own."""
    devices: str = "cpu"
    """Devices that MAX runs the model on, such as `gpu` or `gpu:0,1`."""
    max_batch_size: int | None = Field(default=None, ge=1)
    """Maximum number of requests that MAX processes at a time."""
    image: str | None = None
    """Container image for `--engine docker`."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory that MAX needs, in GB; a start is refused if less is free."""
    extra_flags: tuple[str, ...] = ()
    """Further flags of `max serve`."""


class ModelCard(_Section):
    """One model."""

    name: ModelName
    """Name in `/v1/models`."""
    served_model_name: ModelName = ""
    """Name in MAX; by default `name`. Clients may use it, too."""
    aliases: tuple[ModelName, ...] = ()
    """Further names that clients may use."""
    description: str = ""
    """Text in `maxgate models list`."""
    task: Task = "chat"
    """`chat`, `embeddings`, or [`moderation`](guardrails.md#models), as Llama Guard does."""
    prompt: PromptFormat
    """Prompt format: `llama3` or `chatml`; `engine` lets the engine format prompts."""
    tokenizer: str = ""
    """Directory, tokenizer.json, GGUF file or Hugging Face repository; by default the model's."""
    require_tokenizer: bool = False
    """Refuse requests with 503 while the tokenizer is not on the gateway's machine."""
    context_length: int = Field(ge=1)
    """Maximum tokens of prompt and response together, or of an embedding input."""
    dimensions: int | None = Field(default=None, ge=1)
    """Dimensions of the vectors; required for `task: embeddings`."""
    default_system_prompt: str | None = None
    """System prompt of dialogues without one, for `prompt: chatml`."""
    structured_output: StructuredOutput = "refuse"
    """JSON output on an engine without a grammar: `refuse` it, or validate and `retry`."""
    tool_style: ToolStyle = "json"
    """Tool calls in prompts: `json`, `python_list` (default for `llama3`) or `function_tag`."""
    sampling: SamplingDefaults = SamplingDefaults()
    """Defaults for fields that a request omits."""
    parse_special: bool = False
    """Default of `parse_special` in `/v1/completions`: names of special tokens become tokens."""
    prompt_logprobs: bool = False
    """MAX returns [logprobs of prompts](#logprobs-of-prompts): it runs with `--enable-echo`."""
    load: Load = "always"
    """Start MAX with the gateway, or [`on_demand`](model-swap.md): for the first request."""
    idle_ttl: float = Field(default=600, ge=0, allow_inf_nan=False)
    """Seconds without requests after which an on-demand model is stopped; 0 is never."""
    group: str = Field(default="default", min_length=1, max_length=200)
    """Only one on-demand model of a group runs at a time."""
    exclusive: bool = False
    """No other on-demand model runs beside this one."""
    source: Source | None = None
    """Files for `maxgate models prepare NAME`."""
    max: MaxFlags | None = None
    """How MAX is started; not needed for an engine that is started elsewhere."""

    @model_validator(mode="before")
    @classmethod
    def _fill_names(cls, values: Any) -> Any:
        if isinstance(values, dict):
            values = dict(values)
            values.setdefault("served_model_name", values.get("name"))
            if values.get("prompt") == "llama3":
                values.setdefault("tool_style", "python_list")
            match values.get("max"):
                case {"model_path": path} | MaxFlags(model_path=path):
                    values.setdefault("tokenizer", path)
        return values

    @model_validator(mode="after")
    def _check_dimensions(self) -> Self:
        if (self.task == "embeddings") != (self.dimensions is not None):
            raise ValueError("`dimensions` is required for embeddings, and not allowed otherwise")
        return self

    @model_validator(mode="after")
    def _check_tokenizer(self) -> Self:
        if self.task == "moderation" and self.prompt == "engine":
            raise ValueError("`task: moderation` needs `prompt: llama3` or `chatml`")
        if not self.tokenizer and (self.prompt != "engine" or self.task == "embeddings"):
            raise ValueError(
                "`tokenizer` is required without `max.model_path`, unless `prompt` is `engine`"
            )
        if self.require_tokenizer and self.prompt == "engine" and self.task == "chat":
            raise ValueError("`require_tokenizer` contradicts `prompt: engine`")
        return self

    @model_validator(mode="after")
    def _check_prompt_logprobs(self) -> Self:
        if not self.prompt_logprobs:
            return self
        if self.prompt == "engine":
            raise ValueError("`prompt_logprobs` contradicts `prompt: engine`")
        if self.max is not None and _PENALTIES_FLAG in self.max.extra_flags:
            raise ValueError(
                f"`prompt_logprobs` contradicts `max.extra_flags: [{_PENALTIES_FLAG}]`: MAX does "
                "not start with both"
            )
        return self

    @model_validator(mode="after")
    def _check_load(self) -> Self:
        if self.load == "on_demand":
            if self.max is None:
                raise ValueError("`load: on_demand` needs the section `max`, to start the model")
            return self
        if useless := {"idle_ttl", "group", "exclusive"} & self.model_fields_set:
            raise ValueError(f"`{min(useless)}` has no effect without `load: on_demand`")
        return self

    def require_max(self) -> MaxFlags:
        """Return the flags of MAX.

        Raises ConfigurationError for a card without them.
        """
        if self.max is None:
            raise ConfigurationError(
                f"the card {self.name} has no section `max`, so its engine cannot be started here; "
                "add max.model_path, or start the engine elsewhere and set --engine-url"
            )
        return self.max

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may use."""
        return (self.name, self.served_model_name, *self.aliases)


def map_names(cards: Iterable[ModelCard]) -> dict[str, str]:
    """Return the name of the card for each name that clients may use."""
    return {name: card.name for card in cards for name in card.names}
