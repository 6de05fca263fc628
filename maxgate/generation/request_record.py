"""The record of one client request: the source of its metrics and its log line."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from maxgate.generation.trace import RequestTrace

Outcome = Literal[
    "ok",
    "client_error",  # invalid request
    "client_gone",  # the client disconnected before the end
    "unavailable",  # no engine, none with capacity, or the gateway is shutting down
    "timeout",  # the engine exceeded a timeout, or the request its deadline
    "upstream_error",  # the engine failed before its first token
    "truncated",  # failed after the first token; the client got an error event
    "internal_error",
]


Refusal = Literal[
    "tenant_queue_full",  # the caller is over its share or its part of the queue
    "server_overloaded",  # no capacity: the queue is full
    "queue_timeout",  # waited as long as requests may wait
    "deadline",  # the request's deadline would pass, or has passed, in the queue
    "shutdown",  # the gateway stops
]
"""Reason for which admission refused a request."""


@dataclass(slots=True)
class RequestRecord:
    """Filled in while the request runs, read once when it has finished.

    Times are readings of the monotonic clock, in seconds. For several choices, tokens are summed
    and `first_token_at` is the earliest. `engine_calls` counts calls to engines, retries
    included; `engine` is the URL of the last one. `retries` counts what was taken from the
    request's retry allowance. `continuations` counts how often a response whose engine failed after
    the first token went on at another one. `queue_seconds` is the time in the queue for a slot, set
    when the wait ends, and `refusal` the reason if no slot was given. `key_id` is the id of the
    credential that authenticated the caller, None without authentication. `project_id` is that of
    the caller, set at the end. `sent_tokens` is the length of the prompt that engines got, 0 if
    they format it. `engine_seconds` is the time for which the engine calls held slots, summed.
    `engine_request_id` is the id that the last engine gave its call. `trace` is set if tracing is
    on.
    """

    request_id: str
    method: str
    route: str
    started_at: float
    finished_at: float = 0.0
    status: int = 0
    outcome: Outcome | None = None
    error_code: str | None = None
    model: str | None = None
    stream: bool = False
    first_token_at: float | None = None
    last_token_at: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine: str | None = None
    engine_request_id: str | None = None
    engine_calls: int = 0
    retries: int = 0
    continuations: int = 0
    queue_seconds: float = 0.0
    engine_seconds: float = 0.0
    sent_tokens: int = 0
    refusal: Refusal | None = None
    key_id: str | None = None
    project_id: str = ""
    trace: RequestTrace | None = None

    duration: float = 0.0
    time_to_first_token: float | None = None
    time_per_output_token: float | None = None

    def finish(self, at: float) -> None:
        """Compute the durations, given the time of the last response byte.

        `time_to_first_token` is None for plain responses. `time_per_output_token` is the mean of
        the tokens after the first (vLLM's TPOT), None below two tokens.
        """
        self.finished_at = at
        self.duration = at - self.started_at
        first, last = self.first_token_at, self.last_token_at
        if first is None or last is None:
            return
        self.time_to_first_token = first - self.started_at
        if self.completion_tokens > 1:
            self.time_per_output_token = (last - first) / (self.completion_tokens - 1)


current_record: Final[ContextVar[RequestRecord | None]] = ContextVar("record", default=None)
"""The record of the request that this task works on; it may have finished."""


class RequestSink(Protocol):
    """Receives every request, such as a metrics store or a request log."""

    def request_started(self) -> None:
        """Note that a request has arrived."""
        ...

    def request_finished(self, record: RequestRecord) -> None:
        """Take the finished record; called exactly once per started request."""
        ...
