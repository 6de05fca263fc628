"""Bound the time between the tokens of a stream.

An engine that sends comments or empty chunks is not silent, but gives no token either.
"""

import asyncio
from typing import Final

from maxgate.upstream.errors import engine_timeout
from maxgate.upstream.http1.connection import Activity, EngineResponse
from maxgate.upstream.max_api.generation import ChunkReader
from maxgate.upstream.settings import UpstreamSettings

# The end of a response normally arrives with its last event.
_END_TIMEOUT: Final = 1.0
# After its finish reason, only the usage of a response is missing.
_USAGE_TIMEOUT: Final = 5.0


class TokenTimeout:
    """Limits the wait for the first token, from construction on, and between two tokens.

    The time in which the client is slow does not count. Times are in seconds.
    """

    def __init__(self, settings: UpstreamSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle_timeout = settings.idle_timeout
        self._remaining = settings.first_token_timeout
        self._since = self._loop.time()
        self._progress = 0
        self._activity = Activity()

    def start(self, response: EngineResponse) -> None:
        """Limit the wait for the first piece of the body."""
        self._activity = response.activity or self._activity
        self._deduct_wait(response)

    def after_read(self, response: EngineResponse, reader: ChunkReader) -> None:
        """Limit the wait for the next piece; raises UpstreamTimeout if the time is used up."""
        if reader.done or reader.finished:
            response.set_read_timeout(
                _END_TIMEOUT if reader.done else min(_USAGE_TIMEOUT, self._idle_timeout)
            )
        elif reader.progress != self._progress:
            if not self._progress or self._remaining != self._idle_timeout:
                self._remaining = self._idle_timeout
                response.set_read_timeout(self._remaining)
            self._progress = reader.progress
            self._since = self._activity.at = self._loop.time()
        else:
            self._deduct_wait(response)

    def _deduct_wait(self, response: EngineResponse) -> None:
        now = self._loop.time()
        self._remaining -= now - self._since
        self._since = now
        if self._remaining <= 0:
            raise engine_timeout()
        response.set_read_timeout(self._remaining)
