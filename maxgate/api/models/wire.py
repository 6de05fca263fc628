"""Models as OpenAI spells them."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Model:
    """A model; `max_model_len` counts prompt and answer, under the name that vLLM and MAX use."""

    id: str
    created: int
    max_model_len: int
    object: Literal["model"] = "model"
    owned_by: str = "maxgate"


@dataclass(frozen=True, slots=True)
class ModelList:
    """All models, the default one first."""

    data: list[Model]
    object: Literal["list"] = "list"
