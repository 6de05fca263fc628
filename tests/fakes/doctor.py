"""A healthy installation for `maxgate doctor`, in which tests plant faults."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

from typing_extensions import override

from maxgate.doctor.checks import CHECKS
from maxgate.doctor.findings import Finding, Subject, run_checks
from maxgate.doctor.host import Host
from maxgate.settings import Settings
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD
from tests.fakes.max_server import FakeMax
from tests.fakes.server import serving

METRICS = b"maxserve_num_requests_running 0\n"


@dataclass
class FakeHost(Host):
    """A machine with room for everything; `time_offset` is added to the real time."""

    cores: int = 4
    files: int = 65_536
    free: int = 2**40
    file_system: str = "ext4"
    listeners: Mapping[int, set[str]] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    root: bool = False
    time_offset: float = 0.0

    @override
    def count_cores(self) -> int:
        return self.cores

    @override
    def read_file_limit(self) -> int:
        return self.files

    @override
    def measure_free_bytes(self, path: Path) -> int:
        return self.free

    @override
    def find_file_system(self, path: Path) -> str:
        return self.file_system

    @override
    def list_listeners(self) -> Mapping[int, set[str]]:
        return self.listeners

    @override
    def has_package(self, name: str) -> bool:
        return name not in self.missing

    @override
    def is_root(self) -> bool:
        return self.root

    @override
    def now(self) -> float:
        return time.time() + self.time_offset


@dataclass
class VersionedMax(FakeMax):
    """A MAX that tells its version and metrics, too."""

    version: str = "26.7.0"
    metrics: bytes = METRICS

    @override
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        contents = {"/version": self.version.encode(), "/metrics": self.metrics}
        if (content := contents.get(scope.get("path", ""))) is None:
            await super().__call__(scope, receive, send)
            return
        # That of the tests' server is the time of its start.
        headers = [(b"date", formatdate(usegmt=True).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


@dataclass
class Installation:
    """A healthy installation with an embedding model; tests change it before they examine it.

    `settings` are merged over those that lead to the engine, section by section.
    """

    folder: Path
    engine: VersionedMax = field(
        default_factory=lambda: VersionedMax(models=[EMBEDDING_MODEL], context_length=256)
    )
    card: Path = EMBEDDING_CARD
    host: FakeHost = field(default_factory=FakeHost)
    settings: dict[str, Any] = field(default_factory=dict)
    url: str | None = None
    key: str = ""
    config_files: list[Path] = field(default_factory=list)
    engine_url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the engine."""
        async with serving(self.engine, date_header=False) as self.engine_url:
            yield

    def serve_chat(self) -> None:
        """Serve a chat model instead, whose tokenizer takes long to load."""
        self.engine.models, self.engine.context_length = ["smollm2-135m-instruct"], 8192
        self.card = SMALL_CARD

    @property
    def engine_item(self) -> dict[str, Any]:
        """The item of `engines` for the engine."""
        return {"url": self.engine_url, "metrics_url": f"{self.engine_url}/metrics"}

    async def examine(self) -> list[Finding]:
        """Run all checks and return what is not well."""
        chosen: dict[str, Any] = {
            "engines": [self.engine_item],
            "cards": [self.card],
            "state_dir": self.folder / "state",
            "server": {"port": 0},
        }
        for name, value in self.settings.items():
            is_section = isinstance(value, dict)
            chosen[name] = {**chosen.get(name, {}), **value} if is_section else value
        subject = Subject(
            Settings(**chosen),
            self.host,
            self.url,
            self.key,
            self.folder / "tls",
            self.config_files,
        )
        findings = await run_checks(CHECKS, subject)
        return [finding for finding in findings if finding.level != "ok"]
