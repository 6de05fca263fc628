"""Run docker-compose.full.yml for the time of a measurement.

Needs the Docker Engine, and images under the names in that file; where there is no registry,
`docker-here.sh` of this project's workplace makes stand-ins, which `stand_ins` completes.
"""

import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar

from benchmarks.stack import MODEL, ROOT
from maxgate.stores.migrate import REVISIONS

Engine = Literal["max", "mock"]
T = TypeVar("T")

PROJECT: Final = "maxgate-bench"
URL: Final = "https://localhost:8443"
CA: Final = ROOT / "deploy" / "tls" / "ca.crt"
IMAGE: Final = "maxgate/gateway"
VERSION: Final = "0.1.0"
# Grafana is left out: its image has no stand-in.
SERVICES: Final = ("nginx", "prometheus")
_STAND_INS: Final = {
    "postgres": "maxgate/stand-in-postgres:16",
    "prometheus": "maxgate/stand-in-prometheus:v2.42.0",
}
# The next version: this one, and a migration that adds a column to the table of every usage line.
_NEXT: Final = f"""\
FROM {IMAGE}:{VERSION}
USER root
COPY migration.py /opt/
RUN cd /opt/venv/lib/python3.*/site-packages/maxgate/stores \\
    && mv /opt/migration.py migrations/versions/revision_9999_benchmark.py \\
    && sed -i 's/^REVISIONS: Final = (\\(.*\\))$/REVISIONS: Final = (\\1, "9999")/' migrate.py
USER 10001:10001
"""
_MIGRATION: Final = """\
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{newest}"
is_expansion = True


def upgrade() -> None:
    op.add_column("usage_entries", sa.Column("benchmark", sa.Text(), nullable=True))
"""


def run(
    *command: str, check: bool = True, environment: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run a command in the root of the project, and return its output without the last newline."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout.strip()


def poll(condition: Callable[[], T | None], what: str, timeout: float) -> T:
    """Return the first value of a condition that is not None."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while time.monotonic() < deadline:
        if (value := condition()) is not None:
            return value
        pause.wait(0.2)
    raise SystemExit(f"{what}: not within {timeout:g} s")


@dataclass
class Stack:
    """The running services; `version` is the tag of the gateway's image.

    `overrides` are further Compose files.
    """

    engine: Engine
    version: str = VERSION
    overrides: Sequence[str] = ()
    _command: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        has_plugin = bool(run("docker", "compose", "version", check=False))
        self._command = ["docker", "compose"] if has_plugin else ["docker-compose"]

    @property
    def environment(self) -> dict[str, str]:
        """Variables of `docker compose`."""
        files = ["docker-compose.full.yml", "benchmarks/compose_stand_ins.yml"]
        if self.engine == "mock":
            files.append("benchmarks/compose_mock.yml")
        files += self.overrides
        return {
            "COMPOSE": " ".join(self._command),
            "COMPOSE_FILE": ":".join(files),
            "COMPOSE_PROJECT_NAME": PROJECT,
            "GATEWAY_VERSION": self.version,
            "MAX_DEVICE": "cpu",
        }

    def compose(self, *arguments: str) -> str:
        """Run `docker compose`."""
        return run(*self._command, *arguments, environment=self.environment)

    def start(self, *services: str) -> None:
        """Start services and what they depend on."""
        self.compose("up", "--detach", "--no-build", *(services or SERVICES))

    def list_containers(self, service: str) -> list[str]:
        """Return the ids of the running containers of a service."""
        label = "label=com.docker.compose"
        return run(
            *("docker", "ps", "--quiet", "--filter", f"{label}.project={PROJECT}"),
            *("--filter", f"{label}.service={service}"),
        ).split()

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a container of a service."""
        return run("docker", "exec", self.list_containers(service)[0], *command)

    def maxgate(self, *arguments: str) -> str:
        """Run the command of the gateway in one of its containers."""
        return self.execute("gateway", "maxgate", *arguments)

    def wait_for_gateway(self, timeout: float = 120) -> None:
        """Wait until commands can be run in a gateway, and its database has tables."""

        def is_up() -> bool | None:
            if not (found := self.list_containers("gateway")):
                return None
            check = ("docker", "exec", found[0], "maxgate", "db", "check")
            return subprocess.run(check, capture_output=True, check=False).returncode == 0 or None

        poll(is_up, "the gateway", timeout)

    def read_ledger(self) -> list[dict[str, Any]]:
        """Return the lines of usage in the database."""
        lines: list[dict[str, Any]] = json.loads(
            self.maxgate("usage", "entries", "--last", "1d", "--limit", "1000000", "--json")
        )
        return lines

    def query_prometheus(self, expression: str) -> str:
        """Return the samples of an expression, one per line."""
        return self.execute(
            *("prometheus", "promtool", "query", "instant", "http://127.0.0.1:9090", expression)
        )


def build_images(engine: Engine) -> None:
    """Build the gateway's image, and those of others that are missing, and create the secrets."""
    run("docker", "build", "--network", "host", "--tag", f"{IMAGE}:{VERSION}", ".")
    if engine == "max" and not _has_image("maxgate/max-cpu:26.7"):
        raise SystemExit("build maxgate/max-cpu:26.7 first: docs/containers.md")
    for target, image in _STAND_INS.items():
        if not _has_image(image):
            run(
                *("docker", "build", "--file", "benchmarks/compose.Dockerfile"),
                *("--target", target, "--tag", image, "benchmarks"),
            )
    run("deploy/create-secrets.sh")


def build_next(tag: str) -> None:
    """Build an image of the next version, whose schema has one revision more."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(_NEXT)
        Path(folder, "migration.py").write_text(_MIGRATION.format(newest=REVISIONS[-1]))
        run("docker", "build", "--tag", f"{IMAGE}:{tag}", folder)


def _has_image(image: str) -> bool:
    return bool(run("docker", "images", "--quiet", image))


@contextmanager
def run_stack(
    engine: Engine, *overrides: str, keep: bool = False, reuse: bool = False
) -> Iterator[Stack]:
    """Start with empty volumes unless `reuse`, and remove everything at the end unless `keep`."""
    stack = Stack(engine, overrides=overrides)
    if not reuse:
        stack.compose("down", "--volumes", "--timeout", "1")
    try:
        yield stack
    finally:
        if not keep:
            stack.compose("down", "--volumes", "--timeout", "1")


def create_key(stack: Stack, name: str) -> str:
    """Create a key in a project of its own, by the commands that an operator uses."""
    project = stack.maxgate("projects", "create", f"{name} {time.time():.0f}")
    return stack.maxgate("keys", "create", "--project", project, "--name", name)


CHAT: Final[dict[str, Any]] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 40,
}
