"""The `max serve` command line."""

from pathlib import Path

import pytest

from maxgate.engine.command import build_arguments, build_environment
from maxgate.engine.prepared_model import PreparedModel
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import is_repository


def card(**flags: object) -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "small",
            "served_model_name": "small-on-max",
            "prompt": "chatml",
            "context_length": 8192,
            "max": {"model_path": "owner/name", **flags},
        }
    )


def test_all_flags() -> None:
    """Every field of the card becomes a flag."""
    full = card(
        weight_path="w.gguf",
        encoding="bfloat16",
        devices="gpu:0,1",
        max_batch_size=32,
        extra_flags=["--ce-delay-ms", "10"],
    )
    arguments = build_arguments(full, model="owner/name", prepared=None, host="h", port=1)
    assert " ".join(arguments) == (
        "serve --model owner/name --served-model-name small-on-max --weight-path w.gguf "
        "--quantization-encoding bfloat16 --devices gpu:0,1 --max-length 8192 "
        "--max-batch-size 32 --host h --port 1 --ce-delay-ms 10"
    )


def test_omitted_fields() -> None:
    """Fields that the card omits are left to MAX's defaults."""
    arguments = build_arguments(card(), model="m", prepared=None, host="h", port=1)
    assert " ".join(arguments) == (
        "serve --model m --served-model-name small-on-max --devices cpu --max-length 8192 "
        "--host h --port 1"
    )


def test_prompt_logprobs() -> None:
    """Logprobs of prompts need two switches; the card's own flags come after them."""
    echoing = card(extra_flags=["--enable-min-tokens"]).model_copy(update={"prompt_logprobs": True})
    arguments = build_arguments(echoing, model="m", prepared=None, host="h", port=1)
    assert arguments[-3:] == ["--enable-echo", "--no-enable-prefix-caching", "--enable-min-tokens"]


def test_prepared_model() -> None:
    """The encoding and weights of a prepared directory override the card's."""
    prepared = PreparedModel(Path("/m"), "q4_k", Path("/m/model.Q4_K.gguf"))
    arguments = build_arguments(
        card(encoding="float32"), model="/m", prepared=prepared, host="h", port=1
    )
    flags = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert flags["--quantization-encoding"] == "q4_k"
    assert flags["--weight-path"] == "/m/model.Q4_K.gguf"


@pytest.mark.parametrize(("telemetry", "disabled"), [(False, "true"), (True, "false")])
def test_environment(*, telemetry: bool, disabled: str) -> None:
    """MAX sends usage data only with `engine.telemetry`."""
    assert build_environment(metrics_port=8081, telemetry=telemetry) == {
        "MAX_SERVE_API_TYPES": '["openai"]',
        "MAX_SERVE_METRICS_ENDPOINT_PORT": "8081",
        "OTEL_SDK_DISABLED": disabled,
    }


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("owner/name", True), ("name", False), ("/a/b", False), ("a/b/c", False)],
)
def test_is_repository(reference: str, *, expected: bool) -> None:
    """A repository is `owner/name`."""
    assert is_repository(reference) == expected
