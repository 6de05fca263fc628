"""Launching engines as local processes or containers."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from maxgate.engine.command import build_arguments, build_environment
from maxgate.engine.container import ContainerLauncher, ContainerSpec
from maxgate.engine.linker import linker_environment
from maxgate.engine.prepared_model import find_damaged_files, read_prepared
from maxgate.engine.process import ProcessLauncher
from maxgate.engine.settings import EngineSettings
from maxgate.errors import ConfigurationError
from maxgate.installation import Installation
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, is_repository

Kind = Literal["local", "docker"]
# Paths in MAX's images.
_MODELS_INSIDE: Final = "/models"
_HUB_INSIDE: Final = "/root/.cache/huggingface/hub"
_COMPILED_INSIDE: Final = "/opt/venv/share/max/.max_cache"


class RunningEngine(Protocol):
    """A started engine, which may have exited since."""

    async def wait(self) -> int:
        """Return the exit code once the engine exits; negative for a signal, as in `subprocess`."""
        ...

    async def stop(self) -> None:
        """Stop the engine and all its processes; does nothing if it has exited."""
        ...


class Launcher(Protocol):
    """Starts one engine, any number of times."""

    log_file: Path
    """File for the engine's output, overwritten at each start."""

    async def start(self) -> RunningEngine:
        """Start the engine without waiting until it is ready.

        Raises EngineError or ConfigurationError if it cannot be started.
        """
        ...


def read_tail(file: Path, size: int = 65536) -> str:
    """Read the end of a log file; an empty string if the file does not exist."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, file.stat().st_size - size))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """The address that an engine listens on."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The URL for clients on this machine."""
        return f"http://{self.host}:{self.port}"


def build_launcher(
    kind: Kind,
    card: ModelCard,
    address: EngineAddress,
    files: ModelFiles,
    settings: EngineSettings,
    *,
    json_logs: bool = False,
) -> Launcher:
    """Build the launcher for a card's model; with `json_logs`, MAX logs in JSON.

    Raises ConfigurationError if the model is neither here nor downloadable, or if MAX or the
    card's image is missing.
    """
    log_file = files.cache_dir / "logs" / f"engine-{address.port}.log"
    metrics_port = settings.metrics_port or address.port + 1
    environment = build_environment(
        metrics_port=metrics_port, telemetry=settings.telemetry, json_logs=json_logs
    )
    if kind == "docker":
        spec = _build_container_spec(card, address, files, environment, metrics_port)
        return ContainerLauncher(spec, log_file, stop_timeout=settings.stop_timeout)
    model = _find_model(card, files)
    arguments = build_arguments(
        card,
        model=model,
        prepared=read_prepared(Path(model)),
        host=address.host,
        port=address.port,
    )
    return ProcessLauncher(
        [_find_max(settings.python), *arguments],
        {**environment, **linker_environment(settings.python)},
        log_file,
        port=address.port,
        memory_gb=card.require_max().memory_gb,
        stop_timeout=settings.stop_timeout,
    )


def _build_container_spec(
    card: ModelCard,
    address: EngineAddress,
    files: ModelFiles,
    environment: dict[str, str],
    metrics_port: int,
) -> ContainerSpec:
    settings = card.require_max()
    if settings.image is None:
        raise ConfigurationError(f"the card {card.name} has no image (max.image)")
    model = _find_model(card, files)
    prepared = read_prepared(Path(model))
    volumes = {
        files.hub_cache.absolute(): _HUB_INSIDE,
        files.cache_dir.absolute() / "compiled": _COMPILED_INSIDE,
    }
    inside = model
    if not is_repository(model):
        inside = f"{_MODELS_INSIDE}/{Path(model).name}"
        volumes[Path(model)] = inside
    arguments = build_arguments(
        card,
        model=inside,
        prepared=prepared and prepared.relocate(Path(inside)),
        host="0.0.0.0",
        port=address.port,
    )
    # A container does not inherit this process's login.
    token = os.environ.get("HF_TOKEN")
    login = {"HF_TOKEN": token} if token else {}
    return ContainerSpec(
        image=settings.image,
        name=f"maxgate-engine-{address.port}",
        arguments=arguments[1:],  # the image's entry point is `max serve`
        environment={**environment, "MODULAR_MAX_CACHE_DIR": _COMPILED_INSIDE, **login},
        volumes=volumes,
        port=address.port,
        metrics_port=metrics_port,
        gpu=settings.devices.startswith("gpu"),
    )


def _find_model(card: ModelCard, files: ModelFiles) -> str:
    reference = card.require_max().model_path
    # MAX finds its own downloads, and checks for updates, by repository name.
    if is_repository(reference):
        return reference
    found = files.find(reference)
    model = card.name if card.source else f"FILE.gguf --out {reference}"
    command = f"{Installation.detect().format_maxgate()} models prepare {model}"
    if found is None:
        raise ConfigurationError(f"the model {reference} is not prepared yet; run: {command}")
    if damaged := find_damaged_files(found):
        raise ConfigurationError(
            f"the model {reference} is incomplete: {', '.join(damaged[:3])} in {found}; "
            f"run: {command} --force"
        )
    return str(found)


def _find_max(python: Path | None) -> str:
    """Return the path of the program `max`, beside `python` or, by default, our own Python."""
    if python is not None:
        # Not resolved: the Python of a virtual environment is a link out of it.
        program = python.expanduser().absolute().parent / "max"
        if not program.exists():
            raise ConfigurationError(
                f"setting engine.python: there is no `max` beside {python}; "
                "`make .venv-max` installs one, or run: "
                f"{python} -m pip install 'modular>=26.7,<26.8'"
            )
        return str(program)
    beside = Path(sys.executable).parent / "max"
    found = str(beside) if beside.exists() else shutil.which("max")
    if found is None:
        raise ConfigurationError(
            f"MAX is not installed; run: {Installation.detect().format_install('local')}, or set "
            "engine.python to the Python of an environment that has it"
        )
    return found
