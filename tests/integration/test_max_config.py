"""`max_config.yaml`, read by MAX itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from maxgate.cards import load_cards

_ROOT = Path(__file__).parents[2]
_FILE = _ROOT / "max_config.yaml"

# `max serve --config-file FILE` for each file, up to where the model would be loaded: what
# MAX has read is printed instead of served. One process, because importing MAX takes seconds.
_READ = """
import json, sys
from max._entrypoints import pipelines
from max._entrypoints.cli import serve

def show(settings, pipeline_args):
    print(json.dumps({"read": pipeline_args.model_dump(mode="json")}))

serve.serve_api_server_and_model_worker = show
for file in sys.argv[1:]:
    try:
        pipelines.main(["serve", "--config-file", file], standalone_mode=False)
    except ValueError as error:
        print(json.dumps({"error": str(error)}))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What MAX says to the file, and to one with a key that it does not know."""
    misspelt = tmp_path_factory.mktemp("config") / "max_config.yaml"
    misspelt.write_text(_FILE.read_text().replace("max_batch_size", "max_batch_sise"))
    result = subprocess.run(
        [sys.executable, "-c", _READ, str(_FILE), str(misspelt)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OTEL_SDK_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    read, refused = map(json.loads, result.stdout.splitlines()[-2:])
    return read, refused


def test_max_reads_what_the_file_says(answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """The design's numbers arrive in MAX, and so does every other key of the file."""
    options = answers[0]["read"]
    content = yaml.safe_load(_FILE.read_text())
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
    answers: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """So the other test notices when MAX renames one."""
    assert "runtime.max_batch_sise" in answers[1]["error"]


def test_the_file_and_the_model_card_agree() -> None:
    """`maxgate engine start` and `docker compose up` serve the same model the same way."""
    config = yaml.safe_load(_FILE.read_text())
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
