"""A card says exactly how MAX is started."""

from pathlib import Path

import pytest

from maxgate.engine.command import PreparedModel, engine_environment, is_repository, serve_arguments
from maxgate.engine.launcher import EnginePlace, launcher_for
from maxgate.engine.settings import EngineSettings
from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles


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


def test_every_part_of_the_card_is_a_flag() -> None:
    full = card(
        weight_path="w.gguf",
        encoding="bfloat16",
        devices="gpu:0,1",
        max_batch_size=32,
        extra_flags=["--ce-delay-ms", "10"],
    )
    arguments = serve_arguments(full, model="owner/name", prepared=None, host="h", port=1)
    assert " ".join(arguments) == (
        "serve --model owner/name --served-model-name small-on-max --weight-path w.gguf "
        "--quantization-encoding bfloat16 --devices gpu:0,1 --max-length 8192 "
        "--max-batch-size 32 --host h --port 1 --ce-delay-ms 10"
    )


def test_what_the_card_leaves_out_is_left_to_max() -> None:
    arguments = serve_arguments(card(), model="m", prepared=None, host="h", port=1)
    assert " ".join(arguments) == (
        "serve --model m --served-model-name small-on-max --devices cpu --max-length 8192 "
        "--host h --port 1"
    )


def test_a_prepared_directory_knows_better_than_the_card() -> None:
    prepared = PreparedModel(Path("/m"), "q4_k", Path("/m/model.Q4_K.gguf"))
    arguments = serve_arguments(
        card(encoding="float32"), model="/m", prepared=prepared, host="h", port=1
    )
    flags = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert flags["--quantization-encoding"] == "q4_k"
    assert flags["--weight-path"] == "/m/model.Q4_K.gguf"


@pytest.mark.parametrize(("telemetry", "disabled"), [(False, "true"), (True, "false")])
def test_usage_stays_at_home_unless_told_otherwise(*, telemetry: bool, disabled: str) -> None:
    assert engine_environment(metrics_port=8081, telemetry=telemetry) == {
        "MAX_SERVE_API_TYPES": '["openai"]',
        "MAX_SERVE_METRICS_ENDPOINT_PORT": "8081",
        "OTEL_SDK_DISABLED": disabled,
    }


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("owner/name", True), ("name", False), ("/a/b", False), ("a/b/c", False)],
)
def test_repositories_are_told_from_folders(reference: str, *, expected: bool) -> None:
    assert is_repository(reference) == expected


def test_a_model_that_is_not_here_is_named_with_what_to_do(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path, tmp_path)
    missing = card(model_path="somewhere")
    with pytest.raises(ConfigurationError, match="somewhere is not prepared yet"):
        launcher_for("local", missing, EnginePlace("h", 1), files, EngineSettings())
    with pytest.raises(ConfigurationError, match="names no image"):
        launcher_for("docker", missing, EnginePlace("h", 1), files, EngineSettings())
