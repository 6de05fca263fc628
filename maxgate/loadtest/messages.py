"""The messages between the load test and its worker processes, sent as one JSON line each."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from maxgate.loadtest.arrivals import Arrivals


class Target(BaseModel):
    """A server under test: the target itself or the baseline."""

    url: str
    model: str | None
    headers: dict[str, str] = Field(default_factory=dict)
    cacert: str | None = None
    insecure: bool = False


TraceFormat = Literal["auto", "azure", "burstgpt", "mooncake", "bailian", "generic"]
TimeUnit = Literal["s", "ms", "us", "ns"]


class TraceOptions(BaseModel):
    """How to read a trace, and the part of it to use; times in seconds of the trace."""

    format: TraceFormat = "auto"
    unit: TimeUnit | None = None
    """Unit of numeric times; None for that of the format."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Names of the columns `time`, `input` and `output` that have unusual names."""
    start: float = 0.0
    duration: float | None = None


class RequestShape(BaseModel):
    """Determines, together with an index, every byte of a request."""

    scenario: str
    """Name of a built-in scenario, or path of a file."""
    seed: int
    stream: bool
    max_tokens: int | None
    extra: dict[str, Any] = Field(default_factory=dict)
    nonce: str | None = None
    """Prefix of every prompt, with the index, so that no prefix cache hits."""
    tokenizer: str | None = None
    trace: TraceOptions = Field(default_factory=TraceOptions)


class LoadShape(BaseModel):
    """How many requests to send, at what concurrency or rate."""

    kind: Literal["closed", "open", "replay"]
    concurrency: int = 1
    arrivals: Arrivals = "constant"
    rate: float = 0.0
    speed: float = 1.0
    requests: int | None = None
    duration: float | None = None
    warmup: int = 0
    """Number of first requests that are not measured; not included in `requests`."""


class Job(BaseModel):
    """One level of load for worker `shard` of `shards`."""

    run_id: str
    targets: list[Target]
    requests: RequestShape
    load: LoadShape
    timeout: float
    grace: float
    """Seconds that unfinished requests get after the last departure."""
    max_failures: int = 50
    """Number of first failures in a row that end the job."""
    keep_going: bool = False
    """Whether to go on although all requests fail."""
    shard: int
    shards: int
    start: float = 0.0
    """Time of the monotonic clock; set once all workers are ready."""
    records: str
    """Path of the file for the raw records."""


class Ready(BaseModel):
    """A worker's first reply to a job: its connections are open."""

    ready: Literal[True] = True


class Start(BaseModel):
    """The reply to Ready."""

    start: float


class Progress(BaseModel):
    """Counts so far, sent by a worker twice a second."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    chunks: int = 0


def sum_progress(parts: Sequence[Progress]) -> Progress:
    """The counts of all workers together."""
    return Progress(
        **{name: sum(getattr(part, name) for part in parts) for name in Progress.model_fields}
    )


class Lag(BaseModel):
    """How late a worker process woke up, in seconds."""

    mean: float = 0.0
    p99: float = 0.0
    p995: float = 0.0
    p9995: float = 0.0
    max: float = 0.0


def max_lag(parts: Sequence[Lag]) -> Lag:
    """The maximum of each statistic over all workers."""
    return Lag(**{name: max(getattr(part, name) for part in parts) for name in Lag.model_fields})


class Failure(BaseModel):
    """The first failure of its kind on one server, with the reason in words."""

    side: int
    kind: str
    message: str


class JobDone(BaseModel):
    """A worker's last reply to a job."""

    done: Literal[True] = True
    cpu: float
    """Share of one core."""
    server: str | None
    lag: Lag = Field(default_factory=Lag)
    failures: list[Failure] = Field(default_factory=list)
    """The first failure of each kind and server."""
    gave_up: bool = False
    """Whether the job ended early, because all requests to one server failed."""
    failure: str | None = None
    """Why the job could not start."""
