"""One level of load: so many at a time, or so many a second, for so long."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from maxgate.tools.results.base import Part
from maxgate.tools.results.distribution import Distribution, Interval

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
