"""`max_config.yaml`, read by MAX itself."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from maxgate.model_cards.loader import load_cards
from tests.integration.conftest import READING
from tests.integration.max_reading import FILE, MaxReading

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def max_answers(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """What MAX says to the file, and to one with a key that it does not know."""
    reading: MaxReading = request.session.stash[READING]
    return reading.answers()


def test_max_reads_what_the_file_says(max_answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """The design's numbers arrive in MAX, and so does every other key of the file."""
    options = max_answers[0]["read"]
    content = yaml.safe_load(FILE.read_text())
    # MAX has the keys of the section `model` beside the other sections.
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


def test_max_refuses_a_key_that_it_does_not_know(
    max_answers: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """So the other test notices when MAX renames one."""
    assert "runtime.max_batch_sise" in max_answers[1]["error"]


def test_the_file_and_the_model_card_agree() -> None:
    """`maxgate engine start` and `docker compose up` serve the same model the same way."""
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
    """Those of the values that `keys` names, at every level."""
    return {
        key: _select(values[key], inner) if isinstance(inner, dict) else values[key]
        for key, inner in keys.items()
    }
