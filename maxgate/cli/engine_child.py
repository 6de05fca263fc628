"""The engine's keeper as a child process of the gateway.

It holds one end of a pipe; when the gateway dies in whatever way, the pipe closes, and the keeper
stops the engine and ends.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

from maxgate.errors import ConfigurationError
from maxgate.settings import Settings


class EngineChild:
    """Runs `maxgate engine start` for the first of the engine URLs.

    `on_failure` is called from a thread when the engine cannot be started; `failed` says so later.
    """

    def __init__(self, settings: Settings, on_failure: Callable[[], None]) -> None:
        self._port = _local_port(settings.engine_urls[0])
        self._kind = settings.engine
        self._on_failure = on_failure
        self._stopping = False
        self.failed = False

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "maxgate", "engine", "start"),
                *("--kind", self._kind, "--port", str(self._port), "--until-stdin-closes"),
            ],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the gateway, which then closes the pipe
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._thread = threading.Thread(target=self._watch, name="engine-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._thread.join()

    def _watch(self) -> None:
        self._process.wait()
        if not self._stopping:
            self.failed = True
            self._on_failure()


def _local_port(url: str) -> int:
    parts = urlsplit(url)
    if parts.hostname not in {"localhost", "127.0.0.1"} or parts.port is None:
        raise ConfigurationError(
            f"an engine can only be started on this machine: the first --engine-url is {url}, "
            "write http://localhost:PORT"
        )
    return parts.port
