"""Files in `state_dir` from which commands find the gateways that run on this machine.

Each gateway holds a lock on its file as long as it lives, so that a file that was left behind, or
whose process id now belongs to another program, is never mistaken for a gateway.
"""

import fcntl
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import structlog

from maxgate.control_plane.listener import name_gateway

_FOLDER: Final = "gateways"
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}

_log = structlog.get_logger("server")


@dataclass(frozen=True, slots=True)
class Instance:
    """A running gateway: the ids of the parent and its workers, and its restarts.

    Process ids are those of `host`, the name of the machine or container. `restarts` counts those
    that have ended; `error` is the reason if the last one failed.
    """

    pid: int
    port: int
    workers: list[int] = field(default_factory=list)
    restarts: int = 0
    error: str | None = None
    host: str = field(default_factory=socket.gethostname)


class InstanceFile:
    """The file of this gateway, from `with` to its end; without the right to write, there is none.

    Its name is made of the host and the port.
    """

    def __init__(self, state_dir: Path, port: int) -> None:
        self._path = state_dir.expanduser() / _FOLDER / f"{name_gateway(port)}.json"
        self._descriptor: int | None = None
        self._content = b""

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            # Another gateway on another address of the same port keeps its file.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            _log.info("`maxgate restart` needs --pid", path=str(self._path), error=error.strerror)
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
        return self

    def write(self, instance: Instance) -> None:
        """Replace the content if it has changed."""
        content = json.dumps(asdict(instance)).encode()
        if self._descriptor is None or content == self._content:
            return
        self._content = content
        with suppress(OSError):  # a full disk
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, content, 0)

    def __exit__(self, *_: object) -> None:
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)


def find_instances(state_dir: Path) -> list[Instance]:
    """Return the gateways that run on this host, by port; other hosts may share the folder."""
    paths = (state_dir.expanduser() / _FOLDER).glob("*.json")
    found = [instance for path in paths if (instance := _read(path)) is not None]
    here = [instance for instance in found if instance.host == socket.gethostname()]
    return sorted(here, key=lambda instance: instance.port)


def local_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server that listens at this address."""
    host = _ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _read(path: Path) -> Instance | None:
    with suppress(OSError, ValueError, TypeError), path.open() as file:
        if _is_locked(file.fileno()):
            content: Any = json.load(file)
            return Instance(**content)
    return None


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
