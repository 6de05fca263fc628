"""Running MAX as a container, through the Docker Engine API."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxgate.errors import ConfigurationError, EngineError
from maxgate.installation import missing_extra


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container of MAX.

    `volumes` maps folders of this machine to folders in the container. `port` and `metrics_port`
    are the same inside and outside, and published on loopback only.
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
    """Starts a container; replaces a leftover one of the same name."""

    def __init__(
        self, spec: ContainerSpec, log_file: Path, *, stop_timeout: float, client: Any = None
    ) -> None:
        self.spec = spec
        self._stop_timeout = stop_timeout
        self._client = client
        self.log_file = log_file

    async def start(self) -> "EngineContainer":
        """Start the container; see Launcher.start for the errors."""
        starting = asyncio.create_task(asyncio.to_thread(self._start))
        try:
            container = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread cannot be cancelled, so wait for its container and remove it.
            with suppress(EngineError, ConfigurationError):
                await asyncio.to_thread(_remove, await starting)
            raise
        return EngineContainer(container, self.log_file, self._stop_timeout)

    def _start(self) -> Any:
        docker = _import_docker()
        spec = self.spec
        self.log_file.unlink(missing_ok=True)  # an old log would explain a failure wrongly
        try:
            client = self._client or docker.from_env()
            with suppress(docker.errors.NotFound):
                client.containers.get(spec.name).remove(force=True)
            for folder in spec.volumes:  # Docker would create missing ones as root
                folder.mkdir(parents=True, exist_ok=True)
            container = client.containers.create(**create_options(spec))
            try:
                container.start()
            except docker.errors.DockerException:
                _remove(container)
                raise
        except docker.errors.ImageNotFound as error:
            raise EngineError(
                f"the image {spec.image} does not exist here; `docker pull` it or build it "
                "(docs/containers.md)"
            ) from error
        except docker.errors.DockerException as error:
            raise EngineError(f"Docker could not start the engine: {error}") from error
        return container


def _import_docker() -> Any:
    try:
        import docker  # noqa: PLC0415  # an extra, not part of the base install
    except ImportError as error:
        raise missing_extra("starting MAX as a container", "docker") from error
    return docker


def _remove(container: Any) -> None:
    with suppress(_import_docker().errors.NotFound):
        container.remove(force=True)


def create_options(spec: ContainerSpec) -> dict[str, Any]:
    """Build the arguments of the Docker SDK's `containers.create`."""
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
        "init": True,  # as process 1, MAX would ignore signals until it is up
        "shm_size": "1g",  # MAX's processes share memory
    }
    if spec.gpu:
        # All GPUs. This is docker.types.DeviceRequest in the API's own form.
        options["device_requests"] = [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]
    return options


class EngineContainer:
    """A started container; its output is copied to the log file continuously."""

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
        """Wait for the container to exit and return its exit code."""
        result = await asyncio.to_thread(self._container.wait)
        await asyncio.wait([self._copying])
        return int(result["StatusCode"])

    async def stop(self) -> None:
        """Stop and remove the container."""
        await asyncio.to_thread(self._stop)
        await asyncio.wait([self._copying])

    def _stop(self) -> None:
        with suppress(_import_docker().errors.NotFound):
            self._container.stop(timeout=int(self._stop_timeout))
        _remove(self._container)
