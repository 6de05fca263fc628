"""What was run, where, and how."""

from typing import Literal

from pydantic import Field

from maxgate.tools.results.base import Part

LoadKind = Literal["closed", "constant", "poisson", "ramp", "sweep", "soak", "replay"]


class Machine(Part):
    """The machine that the client ran on."""

    system: str
    processor: str
    cores: int
    memory_bytes: int | None
    python: str


class Server(Part):
    """Who was asked; user info and query are left out of the URL."""

    url: str
    model: str | None
    software: str | None = None
    """Its `server` header, where it sends one."""


class Workload(Part):
    """What was asked. Two runs are comparable when `fingerprint` is the same."""

    scenarios: list[str]
    stream: bool
    max_tokens: int | None
    cold: bool
    fingerprint: str
    """SHA-256 over the requests of the first 1,000 indices, without model name and nonce."""


class Load(Part):
    """How it was asked."""

    kind: LoadKind
    concurrency: list[int] = Field(default_factory=list)
    rates: list[float] = Field(default_factory=list)
    duration_seconds: float | None
    requests: int | None
    warmup_requests: int
    warmup_seconds: float = 0.0
    processes: int = 1
    timeout_seconds: float
    shard: str | None = None


class Definition(Part):
    """What a metric means, to be printed beside its number."""

    title: str
    unit: str
    better: Literal["lower", "higher"]
    text: str
