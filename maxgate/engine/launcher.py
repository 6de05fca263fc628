"""What starts an engine, and what a started engine can do. Two kinds: process and container."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from maxgate.engine.command import engine_environment, is_repository, read_prepared, serve_arguments
from maxgate.engine.container import ContainerLauncher, ContainerSpec
from maxgate.engine.linker import linker_environment
from maxgate.engine.process import ProcessLauncher
from maxgate.engine.settings import EngineSettings
from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles


class RunningEngine(Protocol):
    """An engine that was started and may have ended since."""

    async def wait(self) -> int:
        """Its exit code, once it ends; negative for a signal, as in `subprocess`."""
        ...

    async def stop(self) -> None:
        """End it and everything it started; does nothing where it has ended."""
        ...


class Launcher(Protocol):
    """Starts one engine again and again."""

    log_file: Path
    """Where the engine's output goes; written anew at every start."""

    async def start(self) -> RunningEngine:
        """Start it; it is not ready yet.

        Raises EngineError or ConfigurationError where it cannot even be started.
        """
        ...


def read_tail(file: Path, size: int = 65536) -> str:
    """The end of a log file, or nothing where there is none."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - size))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


Kind = Literal["local", "docker"]
# Where MAX's images keep what should outlive a container.
_MODELS_INSIDE: Final = "/models"
_HUB_INSIDE: Final = "/root/.cache/huggingface/hub"
_COMPILED_INSIDE: Final = "/opt/venv/share/max/.max_cache"


@dataclass(frozen=True, slots=True)
class EnginePlace:
    """Where an engine is to answer."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address for clients on this machine."""
        return f"http://{self.host}:{self.port}"


def launcher_for(
    kind: Kind, card: ModelCard, place: EnginePlace, files: ModelFiles, settings: EngineSettings
) -> Launcher:
    """A launcher of this card's model.

    Raises ConfigurationError where the model is not here and cannot be downloaded, or where MAX
    or the card's image is missing.
    """
    log_file = files.data_dir / "logs" / f"engine-{place.port}.log"
    metrics_port = settings.metrics_port or place.port + 1
    environment = engine_environment(metrics_port=metrics_port, telemetry=settings.telemetry)
    if kind == "docker":
        spec = _container_spec(card, place, files, environment, metrics_port)
        return ContainerLauncher(spec, log_file, stop_timeout=settings.stop_timeout)
    model = _model(card, files)
    arguments = serve_arguments(
        card,
        model=model,
        prepared=read_prepared(Path(model)),
        host=place.host,
        port=place.port,
    )
    return ProcessLauncher(
        [_max_program(), *arguments],
        {**environment, **linker_environment()},
        log_file,
        port=place.port,
        memory_gb=card.max.memory_gb,
        stop_timeout=settings.stop_timeout,
    )


def _container_spec(
    card: ModelCard,
    place: EnginePlace,
    files: ModelFiles,
    environment: dict[str, str],
    metrics_port: int,
) -> ContainerSpec:
    if card.max.image is None:
        raise ConfigurationError(f"the card {card.name} names no image (max.image)")
    model = _model(card, files)
    prepared = read_prepared(Path(model))
    volumes = {
        files.hub_cache.absolute(): _HUB_INSIDE,
        files.data_dir.absolute() / "compiled": _COMPILED_INSIDE,
    }
    inside = model
    if not is_repository(model):
        inside = f"{_MODELS_INSIDE}/{Path(model).name}"
        volumes[Path(model)] = inside
    arguments = serve_arguments(
        card,
        model=inside,
        prepared=prepared and prepared.moved_to(Path(inside)),
        host="0.0.0.0",
        port=place.port,
    )
    return ContainerSpec(
        image=card.max.image,
        name=f"maxgate-engine-{place.port}",
        arguments=arguments[1:],  # the image's entry point is `max serve`
        environment={**environment, **_container_environment()},
        volumes=volumes,
        port=place.port,
        metrics_port=metrics_port,
        gpu=card.max.devices.startswith("gpu"),
    )


def _container_environment() -> dict[str, str]:
    # A container does not inherit the login of this process.
    token = os.environ.get("HF_TOKEN")
    login = {"HF_TOKEN": token} if token else {}
    return {"MODULAR_MAX_CACHE_DIR": _COMPILED_INSIDE, **login}


def _model(card: ModelCard, files: ModelFiles) -> str:
    reference = card.max.model_path
    # MAX knows its own downloads, and looks for newer ones, by the repository's name.
    if is_repository(reference):
        return reference
    found = files.find(reference)
    if found is None:
        what = card.name if card.source else f"FILE.gguf --out {reference}"
        raise ConfigurationError(
            f"the model {reference} is not prepared yet; run: maxgate models prepare {what}"
        )
    return str(found)


def _max_program() -> str:
    beside = Path(sys.executable).parent / "max"
    program = str(beside) if beside.exists() else shutil.which("max")
    if program is None:
        raise ConfigurationError("MAX is not installed; run: pip install 'maxgate[local]'")
    return program
