"""Errors of engines, translated from httpx's exceptions and MAX's error responses.

MAX's own messages never reach clients: some say nothing ("Value error."), others name internals.
"""

import re
from typing import Final, Literal

import httpx
import orjson

from maxgate.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamError,
    UpstreamOverloaded,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from maxgate.generation.errors import ContextLengthExceeded

RETRY_AFTER_SECONDS: Final = 2
_TOKENIZER_RETRY_AFTER: Final = 30
_TOO_LONG = re.compile(r"(\d+) tokens exceeds the configured maximum context length of (\d+)")

Failure = Literal[
    "refused",  # no connection could be opened
    "connect_timeout",  # the engine did not accept the connection in time
    "disconnect",  # the engine closed the connection before it responded
    "stale",  # as "disconnect", on a reused connection: the engine may not have seen the request
]


class EngineUnreachable(UpstreamUnavailable):
    """The engine did not respond at all, so the request may be sent again."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(
            "The engine cannot be reached."
            if self.is_connect_failure
            else "The engine closed the connection before it responded.",
            retry_after=RETRY_AFTER_SECONDS,
        )

    @property
    def is_connect_failure(self) -> bool:
        """Whether there was no connection at all."""
        return self.failure in {"refused", "connect_timeout"}


def no_engine_ready() -> UpstreamUnavailable:
    """Return the error for a model that no engine serves at the moment."""
    return UpstreamUnavailable(
        "No engine is ready to serve this model. It may be starting; try again shortly.",
        retry_after=RETRY_AFTER_SECONDS,
    )


def tokenizer_missing(model: str) -> UpstreamUnavailable:
    """Return the error for a model that is not served without a tokenizer."""
    return UpstreamUnavailable(
        f"The tokenizer of {model} is not on the gateway's machine, and the model is not served "
        "without it. The gateway's log has the command that fetches it.",
        retry_after=_TOKENIZER_RETRY_AFTER,
    )


def engine_overloaded(message: str) -> UpstreamOverloaded:
    """Return the error for an engine, or the pool of connections to it, without capacity."""
    return UpstreamOverloaded(message, retry_after=RETRY_AFTER_SECONDS)


def engine_timeout() -> UpstreamTimeout:
    """Return the error for an engine that sent nothing until the timeout."""
    return UpstreamTimeout("The engine did not send anything within the timeout.")


def response_cut_off() -> UpstreamError:
    """Return the error for a response that ended before it was complete."""
    return UpstreamError("The engine's response was cut off.")


def map_httpx_error(error: httpx.HTTPError, *, responding: bool) -> GatewayError:
    """Translate an exception of httpx; `responding` means that the response has begun."""
    match error:
        case httpx.ConnectError():
            return EngineUnreachable("refused")
        case httpx.ConnectTimeout():
            return EngineUnreachable("connect_timeout")
        case httpx.PoolTimeout():
            return engine_overloaded("Too many requests to the engine are in progress.")
        case httpx.TimeoutException():
            return engine_timeout()
        case _:
            return response_cut_off() if responding else EngineUnreachable("disconnect")


def map_error_response(status: int, content: bytes) -> GatewayError:
    """Translate a response of MAX with a status other than 200."""
    if status == 429:
        return engine_overloaded("The engine is at capacity. Try again shortly.")
    if too_long := _TOO_LONG.search(_extract_message(content)):
        tokens, limit = map(int, too_long.groups())
        return ContextLengthExceeded(limit=limit, prompt_tokens=tokens, max_tokens=None)
    if status in {400, 422}:
        return InvalidRequest("The engine cannot serve this request.", code="invalid_value")
    return UpstreamError("The engine failed to respond.")


def _extract_message(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
