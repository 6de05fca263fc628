"""Bodies of /admin/canary, and the interface of its implementation."""

from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, Field

from maxgate.api.schemas import RequestBody
from maxgate.errors import Conflict, NotFound

Verdict = Literal["pass", "fail", "inconclusive"]
Percent = Annotated[float, Field(ge=0, le=100)]


class NewCanary(RequestBody):
    """A canary to start; shares, thresholds and the slowdown are percentages.

    With `mirror`, copies of greedy requests are sent to the engine at `url` and clients get the
    responses of the normal engines. Without, `share` percent of all requests are served by it.
    `requests` is the number of responses after which the verdict is final, `near_tie` the
    difference of log probabilities below which two tokens count as equally likely.
    """

    url: str = Field(min_length=1, max_length=2000)
    ca_file: str | None = Field(default=None, min_length=1, max_length=4000)
    mirror: bool = False
    share: float = Field(default=5, gt=0, le=100)
    requests: int = Field(default=200, ge=1, le=10_000)
    max_seconds: float = Field(default=600, gt=0, le=86_400)
    min_agreement: float = Field(default=95, ge=0, le=99)  # no sample could show 100 %
    max_slowdown: float = Field(default=10, ge=0, le=10_000)
    max_errors: Percent = 1
    near_tie: float = Field(default=0.5, ge=0, le=20)


class Estimate(BaseModel):
    """A value with its 95 % confidence interval; null where the sample is too small."""

    value: float | None
    low: float | None
    high: float | None


class Agreement(BaseModel):
    """How far the responses of the new engine have the same tokens; shares in percent.

    A response agrees if it is `equal`, or if its first different token is a near tie: both tokens
    were almost equally likely at the engines. `unexplained` counts differences for which no engine
    gave log probabilities. `mean_prefix` is the mean share of a response before the first
    difference, `median_divergence` the median position of that difference, in tokens from 0, and
    `median_gap` the median difference of the log probabilities of the two likeliest tokens there.
    """

    responses: int
    equal: int
    near_ties: int
    different: int
    unexplained: int
    share: Estimate
    mean_prefix: float | None
    median_divergence: float | None
    median_gap: float | None


class TimeComparison(BaseModel):
    """Medians of a time, in seconds, at the normal engines and at the new one.

    `ttft` and `tpot` are the first-token time and the time per token after it, of streams.
    `time_per_token` is the duration of a response that is not streamed, divided by its tokens.
    `slowdown` is in percent, negative if the new engine is faster.
    """

    metric: Literal["ttft", "tpot", "time_per_token"]
    samples: int
    old: Estimate
    new: Estimate
    slowdown: Estimate


class Check(BaseModel):
    """One part of the verdict, with its reason."""

    name: Literal["agreement", "slowdown", "errors"]
    verdict: Verdict
    reason: str


class Canary(BaseModel):
    """A canary and its result so far.

    `state` is `starting` until a worker has the list of models of the new engine, then `running`,
    and `halted` if a worker stopped sending requests to an engine that failed repeatedly. `error`
    is the reason why the engine does not list its models. `seen` counts all generation requests,
    `skipped` those that could not be compared, by reason. `errors` counts requests that the new
    engine failed, `causes` by code. `workers` have reported.
    """

    object: Literal["canary"] = "canary"
    id: str
    url: str
    mirror: bool
    share: float
    state: Literal["starting", "running", "halted"]
    error: str | None
    workers: int
    seconds: float
    requests: int
    completed: int
    in_progress: int
    seen: int
    skipped: dict[str, int]
    errors: int
    causes: dict[str, int]
    agreement: Agreement | None
    times: list[TimeComparison]
    checks: list[Check]
    verdict: Verdict


class CanaryControl(Protocol):
    """Runs one canary in all workers.

    A canary that nobody reads for 30 s ends. Everything raises NotSupported, ParentUnreachable and
    NoReply, as EngineControl does.
    """

    async def start_canary(self, canary: NewCanary) -> Canary:
        """Start a canary; raises Conflict if one runs, and InvalidRequest."""
        ...

    async def read_canary(self) -> Canary:
        """Return the result so far, and keep the canary running; raises NotFound."""
        ...

    async def stop_canary(self) -> Canary:
        """End the canary and return its result; raises NotFound."""
        ...


def no_canary() -> NotFound:
    """Return the error for the lack of a canary."""
    return NotFound(
        "No canary runs. One ends when its command ends, and when nobody reads it for 30 s.",
        code="canary_not_found",
    )


def canary_runs(url: str) -> Conflict:
    """Return the error for a second canary."""
    return Conflict(
        f"A canary with {url} runs already. End its command, or send DELETE /admin/canary.",
        code="canary_exists",
    )
