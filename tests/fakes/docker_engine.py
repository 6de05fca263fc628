"""A fake Docker client that creates and runs one engine's container."""

import threading
from collections.abc import Iterator
from typing import Any

from docker.errors import APIError, ImageNotFound, NotFound


class FakeContainer:
    """A container that logs `FakeDocker.output`, then runs until it is stopped or `end` is called.

    `stopped_within` is the timeout in seconds that was given to `stop`.
    """

    def __init__(self, engine: "FakeDocker", options: dict[str, Any]) -> None:
        self._engine = engine
        self._ended = threading.Event()
        self._exit_code = 0
        self.options = options
        self.stopped_within: int | None = None

    def start(self) -> None:
        """Start, or raise the configured error."""
        self._engine.starting.set()
        self._engine.may_start.wait()
        if self._engine.start_error:
            raise APIError(self._engine.start_error)

    def end(self, exit_code: int) -> None:
        """Exit without being stopped."""
        self._exit_code = exit_code
        self._ended.set()

    def logs(self, *, stream: bool, follow: bool) -> Iterator[bytes]:
        """Yield the output, and return when the container ends."""
        assert (stream, follow) == (True, True)
        yield from self._engine.output
        self._ended.wait()

    def wait(self) -> dict[str, int]:
        """Wait for the end, and return the exit code as the Docker Engine does."""
        self._ended.wait()
        return {"StatusCode": self._exit_code}

    def stop(self, *, timeout: int) -> None:
        """Exit with the code of a process ended by SIGTERM."""
        self.stopped_within = timeout
        if not self._ended.is_set():
            self.end(143)

    def remove(self, *, force: bool) -> None:
        """Remove the container from the client."""
        assert force
        self._ended.set()
        if self._engine.by_name.pop(self.options["name"], None) is not self:
            raise NotFound("No such container")


class FakeDocker:
    """Stands in for `docker.DockerClient` and for its `containers`.

    Clear `may_start` to block starts, and wait for `starting` to see one begin.
    """

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
        """The collection of containers."""
        return self

    def get(self, name: str) -> FakeContainer:
        """Return a container by name; raises NotFound."""
        if name not in self.by_name:
            raise NotFound("No such container")
        return self.by_name[name]

    def create(self, **options: Any) -> FakeContainer:
        """Create a container without starting it; raises ImageNotFound."""
        if options["image"] not in self.images:
            raise ImageNotFound("No such image")
        assert options["name"] not in self.by_name, "Conflict. The name is in use"
        container = self.by_name[options["name"]] = FakeContainer(self, options)
        return container
