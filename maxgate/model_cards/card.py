"""Model cards: a model's names, prompt format, defaults and MAX flags, from `models/*.yaml`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PromptFormat = Literal["llama3", "chatml", "engine"]
StructuredOutput = Literal["refuse", "retry"]
ToolStyle = Literal["json", "python_list", "function_tag"]
Task = Literal["chat", "embeddings"]
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w./:@+-]+$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Section):
    """Files in an installed Python package, for `maxgate models prepare NAME`.

    `file` is a GGUF file; `directory` is one that `max serve` loads as it is.
    """

    package: str
    file: str | None = None
    directory: str | None = None

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
    top_p: float = Field(default=1.0, gt=0, le=1)


class MaxFlags(_Section):
    """Flags of `max serve`, and the image and memory that it needs.

    `model_path` is a directory, a name under `models/` in the cache folder, or a Hugging Face
    repository. `image` is used by `--engine docker`.
    """

    model_path: str
    weight_path: str | None = None
    encoding: str | None = None
    devices: str = "cpu"
    max_batch_size: int | None = Field(default=None, ge=1)
    image: str | None = None
    memory_gb: float | None = Field(default=None, gt=0)
    extra_flags: tuple[str, ...] = ()


class ModelCard(_Section):
    """One model.

    `name` is the name in `/v1/models`, `served_model_name` the name in MAX; clients may use
    either, or an alias. `tokenizer` is a directory, a tokenizer.json, a GGUF file or a Hugging
    Face repository in the local cache; by default, it is in `max.model_path`.

    `tool_style` is the format of tool calls in prompts and history: a list of Python calls for
    Llama 3 (from Meta's guide to 3.3), JSON for other models. `structured_output` sets the
    behavior for JSON output on an engine without a grammar: `refuse` rejects the request, `retry`
    validates each response and retries.

    `parse_special` is the default of that field of `/v1/completions`: whether names of special
    tokens in a prompt become those tokens. Set it for base models and fill-in-the-middle; any part
    of such a prompt can then contain special tokens.

    An embedding model has the `dimensions` of its vectors; its `context_length` includes the
    special tokens around a text.
    """

    name: ModelName
    served_model_name: ModelName = ""
    aliases: tuple[ModelName, ...] = ()
    description: str = ""
    task: Task = "chat"
    prompt: PromptFormat
    tokenizer: str = ""
    context_length: int = Field(ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    default_system_prompt: str | None = None
    sampling: SamplingDefaults = SamplingDefaults()
    structured_output: StructuredOutput = "refuse"
    tool_style: ToolStyle = "json"
    parse_special: bool = False
    source: Source | None = None
    max: MaxFlags

    @model_validator(mode="before")
    @classmethod
    def _fill_names(cls, values: Any) -> Any:
        if isinstance(values, dict):
            values = dict(values)
            values.setdefault("served_model_name", values.get("name"))
            if values.get("prompt") == "llama3":
                values.setdefault("tool_style", "python_list")
            if isinstance(flags := values.get("max"), dict):
                values.setdefault("tokenizer", flags.get("model_path"))
        return values

    @model_validator(mode="after")
    def _check_dimensions(self) -> Self:
        if (self.task == "embeddings") != (self.dimensions is not None):
            raise ValueError("`dimensions` is required for embeddings, and not allowed otherwise")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All names that clients may use."""
        return (self.name, self.served_model_name, *self.aliases)
