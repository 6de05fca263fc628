"""Errors of engines, translated from their error responses.

MAX's own messages never reach clients: some say nothing ("Value error."), others name internals.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

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
ADMITTED_SECONDS: Final = 1.0
"""An engine that closes a connection later than this had begun to work on the request."""
_TOKENIZER_RETRY_AFTER: Final = 30
_MAX_RETRY_AFTER: Final = 3600
_TOO_LONG = re.compile(r"(\d+) tokens exceeds the configured maximum context length of (\d+)")
# Codes and types of OpenAI, vLLM, llama.cpp and Azure, and vLLM's texts without a code.
_CONTEXT_CODES: Final = {"context_length_exceeded", "exceed_context_size_error"}
_CONTEXT_TEXTS: Final = ("maximum context length", "max_model_len")
_FILTER_CODES: Final = {"content_filter", "content_policy_violation"}

Failure = Literal[
    "refused",  # no connection could be opened
    "connect_timeout",  # the engine did not accept the connection in time
    "disconnect",  # the engine closed the connection before it responded
    "stale",  # as "disconnect", on a reused connection: the engine may not have seen the request
]

_CUT_OFF: Final = "The engine's response was cut off."
_CAUSES: Final[Mapping[Failure, str]] = {
    "refused": "no connection",
    "connect_timeout": "no connection in time",
    "disconnect": "connection closed",
    "stale": "connection closed",
}


class EngineUnreachable(UpstreamUnavailable):
    """The engine did not respond at all, so the request may be sent again."""

    def __init__(self, failure: Failure, cause: str | None = None) -> None:
        """`cause` is for logs and `GET /health`, in a few words."""
        self.failure = failure
        self.cause = cause or _CAUSES[failure]
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


class ConnectionsInUse(UpstreamOverloaded):
    """The gateway has as many connections to the engine as it may open."""

    def __init__(self) -> None:
        super().__init__(
            "Too many requests to the engine are in progress.", retry_after=RETRY_AFTER_SECONDS
        )


class EngineDisconnected(UpstreamError):
    """The engine closed the connection in the middle of its response."""

    def __init__(self) -> None:
        super().__init__(_CUT_OFF)


def is_disconnect(error: GatewayError) -> bool:
    """Whether the engine had accepted the connection of the request, and closed it."""
    if isinstance(error, EngineUnreachable):
        return not error.is_connect_failure
    return isinstance(error, EngineDisconnected)


def is_unsent(error: GatewayError) -> bool:
    """Whether the request was sent to no engine, because there was no connection to send it on."""
    if isinstance(error, EngineUnreachable):
        return error.is_connect_failure
    return isinstance(error, ConnectionsInUse)


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


def engine_timeout() -> UpstreamTimeout:
    """Return the error for an engine that sent nothing until the timeout."""
    return UpstreamTimeout("The engine did not send anything within the timeout.")


def response_cut_off() -> UpstreamError:
    """Return the error for a response that ended before it was complete."""
    return UpstreamError(_CUT_OFF)


def response_too_large(limit: int) -> UpstreamError:
    """Return the error for headers or a body with more than `limit` bytes."""
    return UpstreamError(f"The engine's response is larger than {limit} bytes.")


def map_error_response(
    status: int, content: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> GatewayError:
    """Translate a response of an engine with a status other than 200.

    `Retry-After` is kept, and so are the codes for a full context and for filtered content.
    """
    retry_after = _parse_retry_after(headers)
    if status == 429:
        return UpstreamOverloaded(
            "The engine is at capacity. Try again shortly.", retry_after=retry_after
        )
    if (known := _recognize_error(_extract_error(content))) is not None:
        return known
    if status in {400, 422}:
        return InvalidRequest("The engine cannot serve this request.", code="invalid_value")
    if status == 503:
        return UpstreamUnavailable(
            "The engine is not available. Try again shortly.", retry_after=retry_after
        )
    return UpstreamError("The engine failed to respond.")


def map_error_event(error: Any) -> GatewayError:
    """Translate the `error` in a response with status 200."""
    known = _recognize_error(error) if isinstance(error, Mapping) else None
    return known or UpstreamError("The engine failed in the middle of its response.")


def _recognize_error(error: Mapping[str, Any]) -> InvalidRequest | None:
    message, codes = str(error.get("message")), {str(error.get(key)) for key in ("code", "type")}
    if too_long := _TOO_LONG.search(message):
        tokens, limit = map(int, too_long.groups())
        return ContextLengthExceeded(limit=limit, prompt_tokens=tokens, max_tokens=None)
    if codes & _CONTEXT_CODES or any(text in message for text in _CONTEXT_TEXTS):
        return InvalidRequest(
            "Prompt and completion do not fit into the model's context. Shorten them.",
            code=ContextLengthExceeded.default_code,
        )
    if filtered := codes & _FILTER_CODES:
        return InvalidRequest(
            "The engine's content filter refused the request.", code=filtered.pop()
        )
    return None


def _extract_error(content: bytes) -> Mapping[str, Any]:
    try:
        fields = orjson.loads(content)
        error = fields.get("error", fields)  # older versions of vLLM have no `error` around it
    except (ValueError, AttributeError):
        return {}
    return error if isinstance(error, dict) else {"message": error}


def _parse_retry_after(headers: Sequence[tuple[bytes, bytes]]) -> int:
    for name, value in headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return min(max(int(value[:9]), 1), _MAX_RETRY_AFTER)
    return RETRY_AFTER_SECONDS
