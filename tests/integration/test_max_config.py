"""`max_config.yaml`, as MAX itself reads it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from maxgate.model_cards.loader import load_cards
from tests.integration.max_reading import FILE, read_with_max

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def max_answers() -> tuple[dict[str, Any], dict[str, Any]]:
    """MAX's output for the file, and for one with an unknown key; importing MAX takes 10 s."""
    return read_with_max()


def test_max_config(max_answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """MAX uses every value of the file."""
    options = max_answers[0]["read"]
    content = yaml.safe_load(FILE.read_text())
    # MAX merges the section `model` into the top level.
    keys = content.pop("model") | content

    assert _select(options, keys) == {
        "model_path": "allura-forge/Llama-3.3-8B-Instruct",
        "served_model_name": "llama-3.3-8b-instruct",
        "quantization_encoding": "bfloat16",
        "max_length": 8192,
        "kv_cache": {"enable_prefix_caching": True, "device_memory_utilization": 0.9},
        "runtime": {"max_batch_size": 32, "ce_delay_ms": 10.0},
        "sampling": {"enable_structured_output": True},
    }


def test_unknown_key(max_answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """MAX rejects unknown keys, so a renamed key fails the test above."""
    assert "runtime.max_batch_sise" in max_answers[1]["error"]


def test_card() -> None:
    """The file agrees with the model card, so `maxgate engine start` and Compose serve the same."""
    config = yaml.safe_load(FILE.read_text())
    [card] = load_cards([_ROOT / "models" / "llama-3.3-8b-instruct.yaml"])

    model, runtime = config["model"], config["runtime"]
    assert (
        model["model_path"],
        model["served_model_name"],
        model["quantization_encoding"],
        model["max_length"],
        runtime["max_batch_size"],
    ) == (
        card.max.model_path,
        card.served_model_name,
        card.max.encoding,
        card.context_length,
        card.max.max_batch_size,
    )


def _select(values: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """Return the values at `keys`, level by level."""
    return {
        key: _select(values[key], inner) if isinstance(inner, dict) else values[key]
        for key, inner in keys.items()
    }
