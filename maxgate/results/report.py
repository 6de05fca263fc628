"""The whole report. Its JSON Schema is published as docs/load-test-report.schema.json."""

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from maxgate.results.distribution import Distribution, Interval, Part

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


Side = Literal["target", "baseline"]


class Requests(Part):
    """What became of the requests; warm-up is left out.

    `attempted` = `succeeded` + `failed`; those that were cut off by the end of the run or by
    Ctrl-C are `unfinished` and in neither. `good` met every objective of `--slo`.
    """

    attempted: int
    succeeded: int
    failed: int
    unfinished: int = 0
    good: int | None = None
    errors: dict[str, int] = Field(default_factory=dict)
    """Failures by kind: `http_503`, `timeout`, `connect`, `disconnected`, `stream_error`, ..."""


class Tokens(Part):
    """Tokens of the successful requests."""

    input: int | None
    cached: int | None = None
    output: int
    counted_by: Literal["usage", "chunks", "mixed"]
    """`usage` is the server's own count; `chunks` counts pieces of output, for want of it."""


class Throughput(Part):
    """Per second of the measured window; nulls where there was nothing."""

    requests: float
    requests_interval: Interval | None = None
    good_requests: float | None = None
    input_tokens: float | None = None
    output_tokens: float
    chunks: float


class Chunks(Part):
    """How the streamed output was cut into pieces, and how those met the network."""

    count: int
    tokens_per_chunk: float | None
    shared_reads: int
    """Pieces that arrived in one read with the piece before them: their gap is 0 by necessity."""
    stalls: int
    """Gaps that were longer than `stall_seconds`."""
    stall_seconds: float


class InFlight(Part):
    """Requests under way, weighted by time."""

    configured: int | None
    mean: float
    max: int


class Client(Part):
    """Whether the client kept up."""

    cpu: float | None
    """Of one core, the busiest process."""
    late_p99: float | None
    """Seconds between when a request was to leave and when it left."""
    lag_p99: float | None = None
    """Seconds from when the busiest process asked to be woken until it was."""
    limited: bool = False
    reason: str | None = None


class Second(Part):
    """One second of the run; `offset` is the first one's distance from the level's start."""

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


class Level(Part):
    """One level of load on one server."""

    name: str
    """As people call it: `concurrency 8`, `25 requests/s`."""
    scenario: str
    side: Side = "target"
    concurrency: int | None = None
    rate: float | None = None
    """Requests per second that were planned."""
    started_at: datetime
    wall_seconds: float
    """From the first request to the last answer, warm-up included."""
    window_seconds: float
    """What `throughput` divides by: from the first measured departure to the last measured end."""
    requests: Requests
    in_flight: InFlight
    tokens: Tokens
    throughput: Throughput
    chunks: Chunks | None = None
    metrics: dict[str, Distribution]
    timeline: list[Second] = Field(default_factory=list)
    client: Client


Verdict = Literal["pass", "fail", "unclear"]


class Grade(Part):
    """One target and whether it was met."""

    target: str
    """`p50`, `p95`, `p99`, `throughput`, `error_rate`, or an objective's metric."""
    level: str
    limit: float
    better: Literal["lower", "higher"]
    value: float | None
    unit: str
    count: int
    verdict: Verdict
    reason: str
    """One sentence; for `unclear`, why no verdict is given."""


class Change(Part):
    """One number against another, with the interval of the difference `after - before`."""

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


class Saturation(Part):
    """Where more load gave no more throughput."""

    found: bool
    level: str | None
    """The last level that still kept up."""
    reason: str


class Drift(Part):
    """The slope of one metric over a soak, by Theil and Sen, with its interval."""

    metric: str
    level: str
    per_hour: float
    interval: Interval
    relative_per_hour: float | None
    verdict: Literal["steady", "growing", "falling", "unclear"]


FORMAT: Final = "maxgate-load-test"
VERSION: Final = 1
"""Goes up when a reader of the old version would misread the new one."""


class Report(Part):
    """One run of load_test.py."""

    format: Literal["maxgate-load-test"] = FORMAT
    version: Literal[1] = VERSION
    created_at: datetime
    command: list[str]
    seed: int
    interrupted: bool = False
    server: Server
    baseline: Server | None = None
    machine: Machine
    versions: dict[str, str]
    workload: Workload
    load: Load
    objectives: dict[str, float] = Field(default_factory=dict)
    """`--slo`: seconds by metric."""
    definitions: dict[str, Definition]
    levels: list[Level]
    grades: list[Grade] = Field(default_factory=list)
    paired: list[Change] = Field(default_factory=list)
    """`--baseline`: `before` is the baseline, `after` the target."""
    comparison: list[Change] = Field(default_factory=list)
    """`--compare`: `before` is the old report."""
    saturation: Saturation | None = None
    drift: list[Drift] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    records: str | None = None
    """File name, beside the report, of the raw records (see records.py)."""
