"""A checked `models/*.yaml`: what a model is called, how its prompts look, how MAX runs it."""

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
    """What an installed Python package carries, for `maxgate models prepare NAME`.

    `file` is a GGUF file, `directory` one that `max serve` loads as it is.
    """

    package: str
    file: str | None = None
    directory: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.file is None) == (self.directory is None):
            raise ValueError("a source names either a file or a directory")
        return self


class SamplingDefaults(_Section):
    """What a request that leaves the field out gets; OpenAI's own defaults unless the card differs.

    MAX would otherwise take them from the checkpoint's generation_config.json, and two
    checkpoints of one model would answer differently.
    """

    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)


class MaxFlags(_Section):
    """What `max serve` and the container that holds it get.

    `model_path` is a directory, a name under the data folder's `models/`, or a Hugging Face
    repository; `image` is for `--engine docker`.
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

    `name` is what `/v1/models` shows, `served_model_name` what MAX calls it; clients may use
    either, or an alias. `tokenizer` is a directory, a tokenizer.json, a GGUF file or a Hugging
    Face repository in the local cache; where it is left out, `max.model_path` has it.

    `tool_style` is how tools are called in prompts and history; Llama 3 has it from Meta's guide to
    3.3 (a list of Python calls), others as JSON. `structured_output` says what happens where JSON
    is asked for and the engine has no grammar: the request is refused, or answers are checked and
    asked for again.

    A model for embeddings says how many `dimensions` its vectors have; its `context_length` counts
    the special tokens around a text, too.
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
            raise ValueError("`dimensions` has to be given for embeddings, and only there")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which a client may ask for it."""
        return (self.name, self.served_model_name, *self.aliases)
