"""Responses of engines with a status other than 200: their text is logged, never passed on."""

import asyncio
from typing import Final

import structlog

from maxgate.errors import GatewayError
from maxgate.upstream.errors import map_error_response
from maxgate.upstream.http1.connection import EngineResponse

_MAX_ERROR_BYTES: Final = 64 * 1024
_ERROR_TIMEOUT: Final = 5.0
_MAX_LOGGED_BYTES: Final = 2000

_log = structlog.get_logger("upstream")


async def read_refusal(response: EngineResponse, engine: str, request_id: str) -> GatewayError:
    """Return the error for a response with a status other than 200; log its text and close it."""
    async with response:
        try:
            async with asyncio.timeout(_ERROR_TIMEOUT):
                content = await response.read(_MAX_ERROR_BYTES)
        except (GatewayError, TimeoutError):
            content = b""  # the status alone decides
    _log.warning(
        "the engine refused a request",
        request_id=request_id,
        engine=engine,
        status=response.status,
        response=content[:_MAX_LOGGED_BYTES].decode(errors="replace"),
    )
    return map_error_response(response.status, content, response.headers)
