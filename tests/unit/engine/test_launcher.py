"""From a card to the container that serves it."""

import sys
from pathlib import Path

import pytest

from maxgate.engine.command import write_prepared
from maxgate.engine.container import ContainerLauncher, ContainerSpec
from maxgate.engine.launcher import EnginePlace, launcher_for
from maxgate.engine.settings import EngineSettings
from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path / "data", tmp_path / "hub")


def card(model_path: str, *, image: str | None = "max:1", devices: str = "cpu") -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "m",
            "prompt": "llama3",
            "context_length": 8192,
            "max": {"model_path": model_path, "image": image, "devices": devices},
        }
    )


def container(card: ModelCard, files: ModelFiles) -> ContainerSpec:
    place = EnginePlace("127.0.0.1", 8080)
    launcher = launcher_for("docker", card, place, files, EngineSettings())
    assert isinstance(launcher, ContainerLauncher)
    return launcher._spec


def prepared(directory: Path) -> Path:
    directory.mkdir(parents=True)
    write_prepared(directory, source="m.gguf", encoding="q4_k", weight_file="model.Q4_K.gguf")
    return directory


def test_a_prepared_model_is_mounted(files: ModelFiles, tmp_path: Path) -> None:
    """With its cache of compiled models, where the image's environment says it is."""
    model = prepared(files.models_dir / "small")

    spec = container(card("small"), files)

    cache = "/opt/venv/share/max/.max_cache"
    assert spec == ContainerSpec(
        image="max:1",
        name="maxgate-engine-8080",
        arguments=[
            *("--model", "/models/small", "--served-model-name", "m"),
            *("--weight-path", "/models/small/model.Q4_K.gguf"),
            *("--quantization-encoding", "q4_k", "--devices", "cpu", "--max-length", "8192"),
            *("--host", "0.0.0.0", "--port", "8080"),
        ],
        environment={
            "MAX_SERVE_API_TYPES": '["openai"]',
            "MAX_SERVE_METRICS_ENDPOINT_PORT": "8081",
            "MODULAR_MAX_CACHE_DIR": cache,
            "OTEL_SDK_DISABLED": "true",
        },
        volumes={
            tmp_path / "hub": "/root/.cache/huggingface/hub",
            tmp_path / "data" / "compiled": cache,
            model: "/models/small",
        },
        port=8080,
        metrics_port=8081,
        gpu=False,
    )


def test_a_model_may_be_anywhere(files: ModelFiles, tmp_path: Path) -> None:
    """Its own directory is mounted, not the one with all the prepared models."""
    model = prepared(tmp_path / "elsewhere" / "mine")

    spec = container(card(str(model)), files)

    assert spec.arguments[:2] == ["--model", "/models/mine"]
    assert spec.volumes[model] == "/models/mine"


def test_a_repository_is_left_to_max(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """It downloads it, with the login of whoever starts it."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    spec = container(card("owner/name", devices="gpu"), files)

    assert spec.arguments[:2] == ["--model", "owner/name"]
    assert set(spec.volumes) == {files.hub_cache, files.data_dir / "compiled"}
    assert spec.environment["HF_TOKEN"] == "hf_secret"
    assert spec.gpu


def test_a_card_without_an_image_has_no_container(files: ModelFiles) -> None:
    with pytest.raises(ConfigurationError, match="the card m names no image"):
        container(card("owner/name", image=None), files)


async def test_a_missing_docker_sdk_is_named(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "docker", None)
    place = EnginePlace("127.0.0.1", 8080)
    launcher = launcher_for("docker", card("owner/name"), place, files, EngineSettings())

    with pytest.raises(ConfigurationError, match=r"pip install 'maxgate\[docker\]'"):
        await launcher.start()
