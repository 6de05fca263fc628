"""What is learned about a request on its way through the gateway."""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal[
    "ok",
    "client_error",  # the request was wrong
    "client_gone",  # the client left before the end
    "unavailable",  # no engine, or one without room
    "timeout",  # the engine was silent
    "upstream_error",  # the engine failed before its first token
    "truncated",  # the engine failed after it; the client was told
    "internal_error",
]


@dataclass(slots=True)
class RequestTrace:
    """Written by whoever learns something, read once, when the request is over.

    Times are readings of the monotonic clock, in seconds. Where a request makes several answers,
    tokens are summed and `first_token_at` is the earliest.
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

    @property
    def duration(self) -> float:
        """From the request's arrival to the last byte of its answer."""
        return self.finished_at - self.started_at

    @property
    def time_to_first_token(self) -> float | None:
        """From the request's arrival to the first token; only streams have one."""
        if self.first_token_at is None:
            return None
        return self.first_token_at - self.started_at

    @property
    def time_per_output_token(self) -> float | None:
        """Mean time of a token after the first, as in vLLM's definition; None below two tokens."""
        if self.first_token_at is None or self.last_token_at is None or self.completion_tokens < 2:
            return None
        return (self.last_token_at - self.first_token_at) / (self.completion_tokens - 1)
