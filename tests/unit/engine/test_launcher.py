"""Building launchers from model cards."""

import sys
from pathlib import Path

import pytest

from maxgate.engine.container import ContainerLauncher, ContainerSpec
from maxgate.engine.launcher import EngineAddress, Kind, build_launcher
from maxgate.engine.prepared_model import write_prepared
from maxgate.engine.process import ProcessLauncher
from maxgate.engine.settings import EngineSettings
from maxgate.errors import ConfigurationError
from maxgate.installation import Installation
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path / "cache", tmp_path / "hub")


def card(model_path: str, *, image: str | None = "max:1", devices: str = "cpu") -> ModelCard:
    return ModelCard.model_validate(
        {
            "name": "m",
            "prompt": "llama3",
            "context_length": 8192,
            "max": {"model_path": model_path, "image": image, "devices": devices},
        }
    )


ADDRESS = EngineAddress("127.0.0.1", 8080)


def build_container(card: ModelCard, files: ModelFiles) -> ContainerSpec:
    """Build the container of a card."""
    launcher = build_launcher("docker", card, ADDRESS, files, EngineSettings())
    assert isinstance(launcher, ContainerLauncher)
    return launcher.spec


def write_model(directory: Path) -> Path:
    """Write a prepared model."""
    directory.mkdir(parents=True)
    (directory / "model.Q4_K.gguf").write_bytes(b"weights")
    write_prepared(directory, source="m.gguf", encoding="q4_k", weight_file="model.Q4_K.gguf")
    return directory


def test_container_of_prepared_model(files: ModelFiles, tmp_path: Path) -> None:
    """The model's directory and the compile cache are mounted."""
    model = write_model(files.models_dir / "small")

    spec = build_container(card("small"), files)

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
            tmp_path / "cache" / "compiled": cache,
            model: "/models/small",
        },
        port=8080,
        metrics_port=8081,
        gpu=False,
    )


def test_container_of_other_directory(files: ModelFiles, tmp_path: Path) -> None:
    """A directory outside the cache is mounted by itself."""
    model = write_model(tmp_path / "elsewhere" / "mine")

    spec = build_container(card(str(model)), files)

    assert spec.arguments[:2] == ["--model", "/models/mine"]
    assert spec.volumes[model] == "/models/mine"


def test_container_of_repository(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX downloads a repository with the login in HF_TOKEN."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    spec = build_container(card("owner/name", devices="gpu"), files)

    assert spec.arguments[:2] == ["--model", "owner/name"]
    assert set(spec.volumes) == {files.hub_cache, files.cache_dir / "compiled"}
    assert spec.environment["HF_TOKEN"] == "hf_secret"
    assert spec.gpu


def test_card_without_image(files: ModelFiles) -> None:
    """A container needs an image."""
    with pytest.raises(ConfigurationError, match="the card m has no image"):
        build_container(card("owner/name", image=None), files)


async def test_missing_docker_sdk(files: ModelFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra that installs the Docker SDK."""
    monkeypatch.setitem(sys.modules, "docker", None)
    launcher = build_launcher("docker", card("owner/name"), ADDRESS, files, EngineSettings())

    with pytest.raises(ConfigurationError, match=r"pip install -e .*\[docker\]"):
        await launcher.start()


@pytest.mark.parametrize("kind", ["local", "docker"])
def test_unprepared_model(kind: Kind, files: ModelFiles) -> None:
    """The error names the command that prepares the model."""
    with pytest.raises(ConfigurationError) as caught:
        build_launcher(kind, card("small"), ADDRESS, files, EngineSettings())
    program = Installation.detect().format_maxgate()
    assert str(caught.value) == (
        f"the model small is not prepared yet; run: {program} models prepare FILE.gguf --out small"
    )


def test_incomplete_model(files: ModelFiles) -> None:
    """A prepared model without its weights is not started; the error names the missing file."""
    model = write_model(files.models_dir / "small")
    (model / "model.Q4_K.gguf").unlink()
    with pytest.raises(ConfigurationError) as caught:
        build_launcher("local", card("small"), ADDRESS, files, EngineSettings())
    program = Installation.detect().format_maxgate()
    assert str(caught.value) == (
        f"the model small is incomplete: model.Q4_K.gguf in {model}; run: {program} models prepare "
        "FILE.gguf --out small --force"
    )


def test_python_of_another_environment(files: ModelFiles, tmp_path: Path) -> None:
    """With `engine.python`, MAX is started from that environment, even through a link to it."""
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to(sys.executable)
    (folder / "max").touch()
    settings = EngineSettings(python=folder / "python")

    launcher = build_launcher("local", card("owner/name"), ADDRESS, files, settings)

    assert isinstance(launcher, ProcessLauncher)
    assert launcher.command[:2] == [str(folder / "max"), "serve"]


def test_python_without_max(files: ModelFiles, tmp_path: Path) -> None:
    """The error names the setting and how to install MAX there."""
    settings = EngineSettings(python=tmp_path / "python")
    message = rf"setting engine\.python: there is no `max` beside {tmp_path}/python; .*pip install"
    with pytest.raises(ConfigurationError, match=message):
        build_launcher("local", card("owner/name"), ADDRESS, files, settings)
