"""MAX as a container, through the Docker Engine's API."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxgate.errors import ConfigurationError, EngineError


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """How the container is run.

    `volumes` maps folders of this machine to folders inside. MAX listens on `port` inside and
    outside and shows its metrics on `metrics_port`; only this machine can reach them.
    """

    image: str
    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    volumes: Mapping[Path, str]
    port: int
    metrics_port: int
    gpu: bool


class ContainerLauncher:
    """Starts a container, and removes one of the same name that was left over."""

    def __init__(
        self, spec: ContainerSpec, log_file: Path, *, stop_timeout: float, client: Any = None
    ) -> None:
        self._spec = spec
        self._stop_timeout = stop_timeout
        self._client = client
        self.log_file = log_file

    async def start(self) -> "EngineContainer":
        """See Launcher."""
        starting = asyncio.create_task(asyncio.to_thread(self._start))
        try:
            container = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on; what it starts must not be left behind.
            with suppress(EngineError, ConfigurationError):
                await asyncio.to_thread(_remove, await starting)
            raise
        return EngineContainer(container, self.log_file, self._stop_timeout)

    def _start(self) -> Any:
        docker = _docker()
        spec = self._spec
        self.log_file.unlink(missing_ok=True)  # an older one would explain what it has not seen
        try:
            client = self._client or docker.from_env()
            with suppress(docker.errors.NotFound):
                client.containers.get(spec.name).remove(force=True)
            _make_folders(spec.volumes)
            container = client.containers.create(**create_options(spec))
            try:
                container.start()
            except docker.errors.DockerException:
                _remove(container)
                raise
        except docker.errors.ImageNotFound as error:
            raise EngineError(
                f"there is no image {spec.image}; get it with `docker pull` or build it "
                "(docs/containers.md)"
            ) from error
        except docker.errors.DockerException as error:
            raise EngineError(f"Docker could not start the engine: {error}") from error
        return container


def _docker() -> Any:
    try:
        import docker  # noqa: PLC0415  # an extra, not part of the base install
    except ImportError as error:
        raise ConfigurationError(
            "the Docker SDK is not installed; run: pip install 'maxgate[docker]'"
        ) from error
    return docker


def _make_folders(volumes: Mapping[Path, str]) -> None:
    # Docker would make them too, as root's.
    for folder in volumes:
        folder.mkdir(parents=True, exist_ok=True)


def _remove(container: Any) -> None:
    with suppress(_docker().errors.NotFound):
        container.remove(force=True)


def create_options(spec: ContainerSpec) -> dict[str, Any]:
    """The arguments of the Docker SDK's `containers.create`."""
    options: dict[str, Any] = {
        "image": spec.image,
        "name": spec.name,
        "command": list(spec.arguments),
        "environment": dict(spec.environment),
        "volumes": {
            str(host): {"bind": inside, "mode": "rw"} for host, inside in spec.volumes.items()
        },
        "ports": {f"{port}/tcp": ("127.0.0.1", port) for port in (spec.port, spec.metrics_port)},
        "labels": {"maxgate.engine": spec.name},
        "init": True,  # as process 1, MAX would not notice a signal before it is up
        "shm_size": "1g",  # MAX's processes share memory
    }
    if spec.gpu:
        # docker.types.DeviceRequest, spelled as the API has it: every GPU.
        options["device_requests"] = [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]
    return options


class EngineContainer:
    """A container; its output is copied to the log file as it comes."""

    def __init__(self, container: Any, log_file: Path, stop_timeout: float) -> None:
        self._container = container
        self._log_file = log_file
        self._stop_timeout = stop_timeout
        self._copying = asyncio.create_task(asyncio.to_thread(self._copy_logs))

    def _copy_logs(self) -> None:
        self._log_file.parent.mkdir(parents=True, exist_ok=True)
        with self._log_file.open("wb", buffering=0) as log:
            for piece in self._container.logs(stream=True, follow=True):
                log.write(piece)

    async def wait(self) -> int:
        """See RunningEngine."""
        result = await asyncio.to_thread(self._container.wait)
        await asyncio.wait([self._copying])
        return int(result["StatusCode"])

    async def stop(self) -> None:
        """See RunningEngine."""
        await asyncio.to_thread(self._stop)
        await asyncio.wait([self._copying])

    def _stop(self) -> None:
        with suppress(_docker().errors.NotFound):
            self._container.stop(timeout=int(self._stop_timeout))
        _remove(self._container)
