"""The report of a load test, with its JSON Schema in docs/load-test-report.schema.json."""

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from maxgate.results.distribution import Distribution, Interval, ReportModel

LoadKind = Literal["closed", "constant", "poisson", "ramp", "sweep", "soak", "replay"]


class Machine(ReportModel):
    """The machine that ran the load generator."""

    system: str
    processor: str
    cores: int
    memory_bytes: int | None
    python: str


class Server(ReportModel):
    """The server under test. `url` omits user info and query."""

    url: str
    model: str | None
    software: str | None = None
    """Value of the `server` response header, if sent."""


class Workload(ReportModel):
    """The requests sent. Runs with the same `fingerprint` are comparable."""

    scenarios: list[str]
    stream: bool
    max_tokens: int | None
    cold: bool
    fingerprint: str
    """SHA-256 of the first 1,000 requests, without model name and nonce."""
    notes: list[str] = Field(default_factory=list)
    """Lines about the content of scenario files, and what was left out of them."""


class Load(ReportModel):
    """The load profile: arrivals, concurrency and duration."""

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


class Definition(ReportModel):
    """Definition of a metric, printed beside its values."""

    title: str
    unit: str
    better: Literal["lower", "higher"]
    text: str


Side = Literal["target", "baseline"]

DESIGN_TARGETS: Final[dict[str, float]] = {
    "p50": 0.4,
    "p95": 0.8,
    "p99": 1.2,
    "throughput": 25.0,
    "error_rate": 0.001,
}
"""Targets of the original design, `--targets design`: seconds, requests per second, a share."""


class Requests(ReportModel):
    """Request counts without warm-up.

    `attempted` = `succeeded` + `failed`. Requests cut off by the end of the run or by Ctrl-C count
    only as `unfinished`. `good` requests met every objective of `--slo`.
    """

    attempted: int
    succeeded: int
    failed: int
    unfinished: int = 0
    good: int | None = None
    errors: dict[str, int] = Field(default_factory=dict)
    """Failures by kind, such as `http_503`, `timeout`, `connect`, `disconnected`."""
    conversations: int | None = None
    """Conversations that the requests belong to, if any has several turns."""
    error_messages: dict[str, str] = Field(default_factory=dict)
    """The reason of the first failure of each kind in words, if the server gave one; at most 300
    characters, without credentials. Empty in reports of older versions."""


class Tokens(ReportModel):
    """Tokens of the successful requests."""

    input: int | None
    cached: int | None = None
    output: int
    counted_by: Literal["usage", "chunks", "mixed"]
    """`usage`: reported by the server; `chunks`: number of chunks, if no usage was reported."""


class Throughput(ReportModel):
    """Rates per second of the measured window."""

    requests: float
    requests_interval: Interval | None = None
    good_requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float
    output_tokens_interval: Interval | None = None
    chunks: float


class Chunks(ReportModel):
    """Statistics of streamed chunks."""

    count: int
    tokens_per_chunk: float | None
    shared_reads: int
    """Chunks that arrived in the same read as the previous chunk, with a gap of 0."""
    stalls: int
    """Chunk gaps longer than `stall_seconds`."""
    stall_seconds: float


class InFlight(ReportModel):
    """Concurrent requests; `mean` is weighted by time."""

    configured: int | None
    mean: float
    max: int


class Client(ReportModel):
    """Load of the client, and whether it limited the measurement."""

    cpu: float | None
    """CPU share of one core used by the busiest process."""
    late_p99: float | None
    """Delay from scheduled to actual send time."""
    lag_p99: float | None = None
    """Delay from requested to actual wake-up of the busiest process."""
    limited: bool = False
    reason: str | None = None


class Second(ReportModel):
    """One second of a level; `offset` is in seconds from the level's start."""

    offset: int
    started: int
    succeeded: int
    failed: int
    output_tokens: int
    in_flight: float
    latency_p50: float | None = None
    latency_p95: float | None = None
    ttft_p50: float | None = None
    ttft_p95: float | None = None


class Level(ReportModel):
    """Results of one load level on one server."""

    name: str
    """Display name, such as `concurrency 8` or `25 requests/s`."""
    scenario: str
    side: Side = "target"
    concurrency: int | None = None
    rate: float | None = None
    """Scheduled requests per second."""
    started_at: datetime
    wall_seconds: float
    """From the first request to the last response, warm-up included."""
    window_seconds: float
    """From the first measured send to the last measured end; divisor of `throughput`."""
    requests: Requests
    in_flight: InFlight
    tokens: Tokens
    throughput: Throughput
    chunks: Chunks | None = None
    metrics: dict[str, Distribution]
    timeline: list[Second] = Field(default_factory=list)
    client: Client

    def find_metric(self, name: str) -> Distribution | None:
        """Return `ttft` or `latency` from the schedule if it was measured, and others as they are.

        In an open loop, times from sending would hide how long requests waited behind a stall.
        """
        return self.metrics.get(f"response_{name}") or self.metrics.get(name)


Verdict = Literal["pass", "fail", "unclear"]


class Grade(ReportModel):
    """Result of checking one target."""

    target: str
    """`p50`, `p95`, `p99`, `throughput`, `error_rate`, or the metric of an objective."""
    level: str
    limit: float
    better: Literal["lower", "higher"]
    value: float | None
    unit: str
    count: int
    verdict: Verdict
    reason: str
    """One sentence; for `unclear`, why there is no verdict."""


class Change(ReportModel):
    """Change of one value, with the interval of the difference `after - before`."""

    metric: str
    statistic: str
    """`p50`, `p95`, `p99`, `mean`, `rate`."""
    level: str
    unit: str
    before: float | None
    after: float | None
    difference: float | None
    interval: Interval | None
    verdict: Literal["same", "better", "worse", "unclear"]
    reason: str


class Saturation(ReportModel):
    """The load beyond which throughput no longer grows."""

    found: bool
    level: str | None
    """The highest level that the server sustained."""
    reason: str


class Drift(ReportModel):
    """Theil-Sen slope of one metric over a soak test, with its interval."""

    metric: str
    level: str
    per_hour: float
    interval: Interval
    relative_per_hour: float | None
    verdict: Literal["steady", "growing", "falling", "unclear"]


FORMAT: Final = "maxgate-load-test"
VERSION: Final = 1
"""Incremented for changes that readers of the previous version would misinterpret."""


class Report(ReportModel):
    """Results of one run of load_test.py."""

    format: Literal["maxgate-load-test"] = FORMAT
    version: Literal[1] = VERSION
    created_at: datetime
    command: list[str]
    seed: int
    interrupted: bool = False
    stopped: str | None = None
    """Why the run ended before all of its levels, apart from an interruption."""
    server: Server
    baseline: Server | None = None
    machine: Machine
    versions: dict[str, str]
    workload: Workload
    load: Load
    objectives: dict[str, float] = Field(default_factory=dict)
    """Limits of `--slo` in seconds, by metric."""
    definitions: dict[str, Definition]
    levels: list[Level]
    grades: list[Grade] = Field(default_factory=list)
    paired: list[Change] = Field(default_factory=list)
    """Results of `--baseline`: `before` is the baseline, `after` the target."""
    comparison: list[Change] = Field(default_factory=list)
    """Results of `--compare`: `before` is the old report."""
    saturation: Saturation | None = None
    drift: list[Drift] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    records: str | None = None
    """Name of the file with raw records (see records.py), in the folder of the report."""
