"""MAX as a container, through the Docker Engine's API."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxgate.errors import EngineError


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """How the container is run.

    `volumes` maps folders of this machine to folders inside. MAX listens on `port` inside and
    outside; only this machine can reach it.
    """

    image: str
    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    volumes: Mapping[Path, str]
    port: int
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
        container = await asyncio.to_thread(self._run)
        return EngineContainer(container, self.log_file, self._stop_timeout)

    def _run(self) -> Any:
        import docker  # noqa: PLC0415  # an extra, not part of the base install
        from docker.errors import DockerException, ImageNotFound, NotFound  # noqa: PLC0415

        spec = self._spec
        try:
            client = self._client or docker.from_env()
            with suppress(NotFound):
                client.containers.get(spec.name).remove(force=True)
            return client.containers.run(detach=True, **run_options(spec))
        except ImageNotFound as error:
            raise EngineError(f"there is no image {spec.image}; build or pull it first") from error
        except DockerException as error:
            raise EngineError(f"Docker could not start the engine: {error}") from error


def run_options(spec: ContainerSpec) -> dict[str, Any]:
    """The arguments of the Docker SDK's `containers.run`."""
    options: dict[str, Any] = {
        "image": spec.image,
        "name": spec.name,
        "command": list(spec.arguments),
        "environment": dict(spec.environment),
        "volumes": {
            str(host): {"bind": inside, "mode": "rw"} for host, inside in spec.volumes.items()
        },
        "ports": {f"{spec.port}/tcp": ("127.0.0.1", spec.port)},
        "labels": {"maxgate.engine": spec.name},
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
        from docker.errors import NotFound  # noqa: PLC0415  # see ContainerLauncher

        with suppress(NotFound):
            self._container.stop(timeout=int(self._stop_timeout))
            self._container.remove(force=True)
