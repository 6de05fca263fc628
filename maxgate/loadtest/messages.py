"""What one process is asked to do: one level of load. It travels as JSON."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from maxgate.loadtest.arrivals import Arrivals


class Peer(BaseModel):
    """One server: the target, or the baseline."""

    url: str
    model: str | None
    headers: dict[str, str] = Field(default_factory=dict)


class RequestShape(BaseModel):
    """Everything that decides the bytes of the request with a given index."""

    scenario: str
    """The name of a built-in one, or the path of a file."""
    seed: int
    stream: bool
    max_tokens: int | None
    extra: dict[str, Any] = Field(default_factory=dict)
    nonce: str | None = None
    """Put before each prompt, with the index, so that no prefix cache can know it."""
    tokenizer: str | None = None


class LoadShape(BaseModel):
    """How many at a time, or how many a second."""

    kind: Literal["closed", "open", "replay"]
    concurrency: int = 1
    arrivals: Arrivals = "constant"
    rate: float = 0.0
    speed: float = 1.0
    requests: int | None = None
    duration: float | None = None
    warmup: int = 0
    """The first so many are not measured; they come on top of `requests`."""


class Job(BaseModel):
    """One level for one process, which is number `shard` of `shards`."""

    run_id: str
    peers: list[Peer]
    requests: RequestShape
    load: LoadShape
    timeout: float
    grace: float
    """Seconds that what is under way gets after the last departure."""
    shard: int
    shards: int
    start: float = 0.0
    """Time of the machine's monotonic clock; told when all processes are ready."""
    records: str
    """The file to write."""


class Ready(BaseModel):
    """The first thing that a process says about a job: connections are open."""

    ready: Literal[True] = True


class Start(BaseModel):
    """The answer to it."""

    start: float


class Progress(BaseModel):
    """What a process says twice a second."""

    started: int = 0
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    chunks: int = 0


class Lag(BaseModel):
    """How late a process was woken; seconds."""

    mean: float = 0.0
    p99: float = 0.0
    p995: float = 0.0
    p9995: float = 0.0
    max: float = 0.0


def worst(lags: Sequence[Lag]) -> Lag:
    """Of several processes, number by number."""
    return Lag(**{name: max(getattr(lag, name) for lag in lags) for name in Lag.model_fields})


class JobDone(BaseModel):
    """The last thing that a process says about a job."""

    done: Literal[True] = True
    cpu: float
    """Of one core."""
    server: str | None
    lag: Lag = Field(default_factory=Lag)
    failure: str | None = None
    """Why nothing was sent."""
