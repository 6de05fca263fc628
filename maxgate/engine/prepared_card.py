"""The model card of a prepared GGUF file, built from the file's metadata."""

import re
from pathlib import Path
from typing import Any, Final

import yaml

from maxgate.engine.command import PreparedModel
from maxgate.errors import ConfigurationError
from maxgate.gguf.reader import GGUFFile
from maxgate.model_cards.card import ModelCard, PromptFormat

# The special tokens that each prompt format needs.
_SPECIAL_TOKENS: Final[dict[PromptFormat, tuple[str, ...]]] = {
    "llama3": (
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|end_of_text|>",
        "<|eom_id|>",
        "<|python_tag|>",
    ),
    "chatml": ("<|im_start|>", "<|im_end|>"),
}
# The token that begins each message in a chat template.
_START_TOKENS: Final[dict[PromptFormat, str]] = {
    "llama3": "<|start_header_id|>",
    "chatml": "<|im_start|>",
}
# A literal system message, as in SmolLM2's and Qwen's templates.
_DEFAULT_SYSTEM: Final = re.compile(r"<\|im_start\|>system(?:\n|\\n)([^'\"{}<>]+)<\|im_end\|>")
_MAX_TOKENS: Final = 1024
# From the scripts that Meta published with Llama 3.
_META_SAMPLING: Final = {"temperature": 0.6, "top_p": 0.9}
_CPU_BATCH_SIZE: Final = 8
# MAX has no grammar on the CPU.
_DEVICE_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "cpu": {"max_batch_size": _CPU_BATCH_SIZE, "image": "maxgate/max-cpu:26.7"},
    "gpu": {"image": "modular/max-nvidia-full:26.7"},
}
_HEADER: Final = """\
# Written by `maxgate models prepare`, which keeps your changes unless --force is given.
# docs/model-cards.md describes all fields.
"""


def build_card(
    source: Path, prepared: PreparedModel, *, name: str, model_path: str, device: str
) -> ModelCard:
    """Build the card of a model that was prepared from the GGUF file `source`.

    `model_path` is the prepared directory as the card refers to it.
    """
    file = GGUFFile(source)
    template = str(file.get("tokenizer.chat_template") or "")
    prompt = detect_prompt_format(template, set(file.require("tokenizer.ggml.tokens")))
    default_system = _DEFAULT_SYSTEM.search(template) if prompt == "chatml" else None
    fields: dict[str, Any] = {
        "name": name,
        "description": _describe(file, prepared.encoding, source),
        "prompt": prompt,
        "tokenizer": model_path,
        "context_length": file.require("llama.context_length"),
        "sampling": _read_sampling(file, prompt),
        "structured_output": "retry" if device == "cpu" else "refuse",
        "max": {
            "model_path": model_path,
            "encoding": prepared.encoding,
            "devices": device,
            **_DEVICE_FIELDS[device],
        },
    }
    if default_system is not None:
        fields["default_system_prompt"] = default_system[1]
    return ModelCard.model_validate(fields)


def detect_prompt_format(template: str, tokens: set[str]) -> PromptFormat:
    """Return the prompt format of a chat template, or of the special tokens without a template.

    Returns `engine` for a format that the gateway does not write.
    """
    for prompt_format, start in _START_TOKENS.items():
        if (not template or start in template) and tokens.issuperset(
            _SPECIAL_TOKENS[prompt_format]
        ):
            return prompt_format
    return "engine"


def write_card(card: ModelCard, file: Path) -> None:
    """Write a card with the fields that are set.

    Raises ConfigurationError if the file cannot be written.
    """
    content = card.model_dump(mode="json", exclude_unset=True, exclude={"served_model_name"})
    text = _HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    try:
        file.write_text(text)
    except OSError as error:
        raise ConfigurationError(f"cannot write model card {file}: {error.strerror}") from error


def _describe(file: GGUFFile, encoding: str, source: Path) -> str:
    title = str(file.get("general.name") or source.stem)
    license_name = file.get("general.license")
    return f"{title}{f' ({license_name})' if license_name else ''}, {encoding} from {source.name}"


def _read_sampling(file: GGUFFile, prompt: PromptFormat) -> dict[str, Any]:
    """Return the sampling defaults; newer files have the model's recommended values."""
    defaults = _META_SAMPLING if prompt == "llama3" else {}
    recommended = {
        "temperature": file.get("general.sampling.temp"),
        "top_p": file.get("general.sampling.top_p"),
    }
    found = {name: round(float(v), 4) for name, v in recommended.items() if v is not None}
    return {**defaults, **found, "max_tokens": _MAX_TOKENS}
