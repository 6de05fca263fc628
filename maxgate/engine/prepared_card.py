"""The model card of a prepared GGUF file, built from the file's metadata."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from maxgate.engine.prepared_model import CARD_HEADER
from maxgate.errors import ConfigurationError
from maxgate.gguf.llama import LlamaFile
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
_MAX_DESCRIPTION: Final = 200
# The same flags as in the cards of models/.
_DEVICE_FIELDS: Final[dict[str, dict[str, Any]]] = {
    "cpu": {
        "max_batch_size": _CPU_BATCH_SIZE,
        "extra_flags": ["--enable-penalties"],
        "image": "maxgate/max-cpu:26.7",
    },
    "gpu": {"image": "modular/max-nvidia-full:26.7"},
}


def build_card(
    model: LlamaFile, *, encoding: str, name: str, model_path: str, device: str
) -> ModelCard:
    """Build the card of a GGUF model that is prepared in `encoding`.

    `model_path` is the prepared directory as the card refers to it.

    Raises ModelFileError for a value in the file that a card cannot have.
    """
    file = model.file
    template = file.read_text("tokenizer.chat_template")
    prompt = detect_prompt_format(template, set(model.vocabulary.tokens))
    default_system = _DEFAULT_SYSTEM.search(template) if prompt == "chatml" else None
    fields: dict[str, Any] = {
        "name": name,
        "description": _describe(file, encoding),
        "prompt": prompt,
        "tokenizer": model_path,
        "context_length": model.shape.context_length,
        "sampling": _read_sampling(file, prompt),
        # MAX has no grammar on the CPU.
        "structured_output": "retry" if device == "cpu" else "refuse",
        "max": {
            "model_path": model_path,
            "encoding": encoding,
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
    """Write a card with the fields that are set, atomically.

    Raises ConfigurationError if the file cannot be written.
    """
    content = card.model_dump(mode="json", exclude_unset=True, exclude={"served_model_name"})
    text = CARD_HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    partial = None
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
        Path(partial).chmod(0o644)
        Path(partial).replace(file)
    except OSError as error:
        raise ConfigurationError(f"cannot write model card {file}: {error.strerror}") from error
    finally:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)


def _describe(file: GGUFFile, encoding: str) -> str:
    title = _clean(file.read_text("general.name")) or file.path.stem
    license_name = _clean(file.read_text("general.license"))
    suffix = f" ({license_name})" if license_name else ""
    return f"{title}{suffix}, {encoding} from {_clean(file.path.name)}"


def _clean(text: str) -> str:
    # `models list` prints it: no line ends, and no codes that control a terminal.
    return "".join(c if c.isprintable() else " " for c in text)[:_MAX_DESCRIPTION].strip()


def _read_sampling(file: GGUFFile, prompt: PromptFormat) -> dict[str, Any]:
    """Return the sampling defaults; newer files have the model's recommended values."""
    found = dict(_META_SAMPLING) if prompt == "llama3" else {}
    # The limits are those of OpenAI's API, and of the card.
    limits = {"temperature": ("temp", 0.0, 2.0), "top_p": ("top_p", 0.001, 1.0)}
    for name, (key, least, most) in limits.items():
        if f"general.sampling.{key}" in file.keys:
            found[name] = round(file.read_number(f"general.sampling.{key}", least, most), 4)
    return {**found, "max_tokens": _MAX_TOKENS}
