"""The card of a prepared GGUF file has the facts of the file."""

from pathlib import Path

import pytest
import yaml
from gguf import GGUFValueType

from maxgate.engine.prepared_card import build_card, detect_prompt_format, write_card
from maxgate.errors import ConfigurationError
from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.llama import LlamaFile
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import load_cards
from tests.fakes.gguf_files import CHATML_TOKENS, write_llama

LLAMA3 = {
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<|python_tag|>",
}
CHATML = {"<|im_start|>", "<|im_end|>"}
TEMPLATE = (
    "{{ '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}"
    "{{ '<|im_start|>' + messages[0]['role'] }}"
)


def test_card(tmp_path: Path) -> None:
    """Name, context length, encoding and sampling come from the file; the card can be loaded."""
    write_llama(
        tmp_path / "m.gguf",
        tokens=CHATML_TOKENS,
        metadata={
            "general.name": ("Tiny\x1b[2J\n", GGUFValueType.STRING),
            "general.license": ("mit", GGUFValueType.STRING),
            "general.sampling.temp": (0.3, GGUFValueType.FLOAT32),
            "tokenizer.chat_template": (TEMPLATE, GGUFValueType.STRING),
        },
    )
    model = LlamaFile(tmp_path / "m.gguf")
    card = build_card(model, encoding="float32", name="tiny", model_path="tiny", device="cpu")
    write_card(card, tmp_path / "tiny.yaml")
    assert yaml.safe_load((tmp_path / "tiny.yaml").read_text()) == {
        "name": "tiny",
        "description": "Tiny [2J (mit), float32 from m.gguf",
        "prompt": "chatml",
        "tokenizer": "tiny",
        "context_length": 256,
        "default_system_prompt": "You are helpful.",
        "structured_output": "retry",
        "sampling": {"temperature": 0.3, "max_tokens": 1024},
        "max": {
            "model_path": "tiny",
            "encoding": "float32",
            "devices": "cpu",
            "max_batch_size": 8,
            "extra_flags": ["--enable-penalties"],
            "image": "maxgate/max-cpu:26.7",
        },
    }
    assert load_cards([tmp_path / "tiny.yaml"]) == [card]


@pytest.mark.parametrize(
    ("template", "tokens", "expected"),
    [
        ("{{ '<|start_header_id|>' }}", LLAMA3, "llama3"),
        ("{{ '<|im_start|>' }}", CHATML | LLAMA3, "chatml"),
        ("{{ '<|start_header_id|>' }}", LLAMA3 - {"<|python_tag|>"}, "engine"),
        ("{{ '[INST]' }}", CHATML, "engine"),
        ("", LLAMA3, "llama3"),
        ("", CHATML, "chatml"),
        ("", {"<s>"}, "engine"),
    ],
)
def test_prompt_format(template: str, tokens: set[str], expected: str) -> None:
    """The chat template decides, or the special tokens of a model without one."""
    assert detect_prompt_format(template, tokens) == expected


def test_read_only_folder(tmp_path: Path) -> None:
    """A card that cannot be written is reported with its path."""
    card = ModelCard(name="m", prompt="engine", context_length=1, tokenizer="t")
    with pytest.raises(ConfigurationError, match=r"cannot write model card .*missing/m.yaml"):
        write_card(card, tmp_path / "missing" / "m.yaml")
    assert list(tmp_path.iterdir()) == []


def test_recommended_sampling_out_of_range(tmp_path: Path) -> None:
    """A recommended value that no request may have is reported by name."""
    metadata = {"general.sampling.temp": (float("nan"), GGUFValueType.FLOAT32)}
    write_llama(tmp_path / "m.gguf", metadata=metadata)
    model = LlamaFile(tmp_path / "m.gguf")
    with pytest.raises(ModelFileError, match=r"nan as 'general\.sampling\.temp', which must be"):
        build_card(model, encoding="float32", name="m", model_path="m", device="cpu")
