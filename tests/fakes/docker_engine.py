"""A stand-in for the Docker SDK's client, with one engine's worth of containers."""

import threading
from collections.abc import Iterator
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound


class FakeContainer:
    """Runs until it is stopped or `end` is called; says its lines first."""

    def __init__(self, engine: "FakeDocker", options: dict[str, Any]) -> None:
        self._engine = engine
        self._over = threading.Event()
        self._exit_code = 0
        self.options = options
        self.stopped_within: int | None = None

    def start(self) -> None:
        """Fail where the engine is told to fail."""
        self._engine.starting.set()
        self._engine.may_start.wait()
        if self._engine.start_error:
            raise APIError(self._engine.start_error)

    def end(self, exit_code: int) -> None:
        """End by itself."""
        self._exit_code = exit_code
        self._over.set()

    def logs(self, *, stream: bool, follow: bool) -> Iterator[bytes]:
        """Its output, until it ends."""
        assert (stream, follow) == (True, True)
        yield from self._engine.output
        self._over.wait()

    def wait(self) -> dict[str, int]:
        """The Docker Engine's answer, once it has ended."""
        self._over.wait()
        return {"StatusCode": self._exit_code}

    def stop(self, *, timeout: int) -> None:
        """End it as SIGTERM does."""
        self.stopped_within = timeout
        if not self._over.is_set():
            self.end(143)

    def remove(self, *, force: bool) -> None:
        """Forget it."""
        assert force
        self._over.set()
        if self._engine.by_name.pop(self.options["name"], None) is not self:
            raise NotFound("No such container")


class FakeDocker:
    """`docker.DockerClient`; its `containers` is itself."""

    def __init__(self, *, images: tuple[str, ...] = ("max:1",), start_error: str = "") -> None:
        self.images = images
        self.start_error = start_error
        self.output = [b"one\n", b"two\n"]
        self.by_name: dict[str, FakeContainer] = {}
        self.starting = threading.Event()
        self.may_start = threading.Event()
        self.may_start.set()

    @property
    def containers(self) -> "FakeDocker":
        """The collection."""
        return self

    def get(self, name: str) -> FakeContainer:
        """By its name."""
        if name not in self.by_name:
            raise NotFound("No such container")
        return self.by_name[name]

    def create(self, **options: Any) -> FakeContainer:
        """Not started yet."""
        if options["image"] not in self.images:
            raise ImageNotFound("No such image")
        assert options["name"] not in self.by_name, "Conflict. The name is in use"
        container = self.by_name[options["name"]] = FakeContainer(self, options)
        return container
