"""What went wrong with an engine, in our words: httpx's exceptions and MAX's error answers.

MAX's own texts do not reach clients: some of them say nothing ("Value error."), others name
internals.
"""

import re

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

RETRY_AFTER_SECONDS = 2
_TOO_LONG = re.compile(r"(\d+) tokens exceeds the configured maximum context length of (\d+)")


class EngineUnreachable(UpstreamUnavailable):
    """The engine could not be reached or hung up before it sent anything; another may be tried.

    `refused` says that there was no connection at all, so the same engine need not be tried.
    """

    def __init__(self, message: str, *, refused: bool) -> None:
        super().__init__(message, retry_after=RETRY_AFTER_SECONDS)
        self.refused = refused


def unavailable() -> UpstreamUnavailable:
    """No engine is there to be asked."""
    return UpstreamUnavailable(
        "No engine is ready to serve this model. It may be starting; try again shortly.",
        retry_after=RETRY_AFTER_SECONDS,
    )


def map_httpx_error(error: httpx.HTTPError, *, answering: bool) -> GatewayError:
    """Httpx's exception as ours.

    `answering` says that the engine has begun to answer, so that nothing may be tried again.
    """
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return EngineUnreachable("The engine cannot be reached.", refused=True)
        case httpx.PoolTimeout():
            return UpstreamOverloaded(
                "Too many requests are being answered.", retry_after=RETRY_AFTER_SECONDS
            )
        case httpx.TimeoutException():
            return UpstreamTimeout("The engine was silent for too long.")
        case _ if answering:
            return UpstreamError("The engine's answer was cut off.")
        case _:
            return EngineUnreachable("The engine hung up before it answered.", refused=False)


def error_answer(status: int, content: bytes) -> GatewayError:
    """What a client is told of an answer that is not 200."""
    message = _message(content)
    if status == 429:
        return UpstreamOverloaded(
            "The engine is at capacity. Try again shortly.", retry_after=RETRY_AFTER_SECONDS
        )
    if too_long := _TOO_LONG.search(message):
        tokens, limit = map(int, too_long.groups())
        return ContextLengthExceeded(limit=limit, prompt_tokens=tokens, max_tokens=None)
    if status in {400, 422}:
        return InvalidRequest("The engine cannot serve this request.", code="invalid_value")
    return UpstreamError("The engine failed to answer.")


def _message(content: bytes) -> str:
    try:
        return str(orjson.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
