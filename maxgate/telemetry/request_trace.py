"""The trace of one client request: its ids, and the steps that become spans when it has ended."""

from asyncio import CancelledError
from dataclasses import dataclass, field
from random import getrandbits
from time import monotonic, time_ns
from typing import Any

from typing_extensions import override

from maxgate.generation.trace import AttemptReason, AttemptTrace, RequestTrace, StepName


@dataclass(slots=True)
class Step:
    """A step of a request; times are readings of `time.monotonic`, in seconds."""

    name: StepName
    started_at: float
    ended_at: float


@dataclass(slots=True)
class EngineAttempt(AttemptTrace):
    """One try of an engine call. `error` is the code of its error, or `cancelled`."""

    headers: list[tuple[bytes, bytes]]
    span_id: int
    engine: str
    path: str
    model: str
    reason: AttemptReason
    started_at: float
    ended_at: float = 0.0
    status: int = 0
    first_token_at: float | None = None
    error: str | None = None

    @override
    def note_first_token(self) -> None:
        self.first_token_at = monotonic()

    @override
    def finish(self, error: BaseException | None) -> None:
        self.ended_at = monotonic()
        if isinstance(error, CancelledError):
            self.error = "cancelled"
        elif error is not None and not isinstance(error, GeneratorExit):
            self.error = getattr(error, "code", None) or type(error).__name__


@dataclass(slots=True, eq=False)
class RecordedTrace(RequestTrace):
    """Ids as W3C Trace Context defines them, and the steps of a sampled request.

    `parent_id` is the client's span, 0 without one, and `state` its `tracestate`. Times are
    readings of `time.monotonic`, and `started_ns` is the time since 1970 at `started_at`.
    """

    trace_id: int
    parent_id: int
    is_sampled: bool
    state: str = ""
    span_id: int = field(default_factory=lambda: getrandbits(64) or 1)
    started_at: float = field(default_factory=monotonic)
    started_ns: int = field(default_factory=time_ns)
    steps: list[Step] = field(default_factory=list)
    attempts: list[EngineAttempt] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    @override
    def hex_id(self) -> str:
        return f"{self.trace_id:032x}"

    @override
    def add_step(self, name: StepName, seconds: float) -> None:
        if self.is_sampled:
            now = monotonic()
            self.steps.append(Step(name, now - seconds, now))

    @override
    def begin_attempt(
        self, engine: str, path: str, model: str, reason: AttemptReason
    ) -> EngineAttempt:
        span_id = getrandbits(64) or 1
        headers = self._build_headers(span_id)
        attempt = EngineAttempt(headers, span_id, engine, path, model, reason, monotonic())
        if self.is_sampled:
            self.attempts.append(attempt)
        return attempt

    def _build_headers(self, span_id: int) -> list[tuple[bytes, bytes]]:
        # A span that is not recorded would leave a gap between the client's and the engine's.
        parent, flags = (span_id, 1) if self.is_sampled else (self.parent_id or self.span_id, 0)
        value = f"00-{self.trace_id:032x}-{parent:016x}-{flags:02x}"
        headers = [(b"traceparent", value.encode())]
        if self.state:
            headers.append((b"tracestate", self.state.encode()))
        return headers
