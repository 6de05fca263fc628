"""Headers that identify the caller, limit the time of a request, announce retries, name sessions.

OpenAI's SDKs send their own timeout and retry count with every request.
"""

import asyncio
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from maxgate.api.principals import identify_by_header
from maxgate.errors import DeadlineExceeded, InvalidRequest
from maxgate.generation.context import RequestContext

TIMEOUT: Final = "X-Request-Timeout"
READ_TIMEOUTS: Final = ("x-stainless-read-timeout", "x-stainless-timeout")
"""Of OpenAI's SDKs for Python and for JavaScript."""
RETRY_COUNT: Final = "x-stainless-retry-count"
SESSION: Final = "X-Session-Id"

_AUTHORIZATION: Final = b"authorization"
_TIMEOUT: Final = TIMEOUT.lower().encode()
_READ_TIMEOUTS: Final = tuple(name.encode() for name in READ_TIMEOUTS)
_RETRY_COUNT: Final = RETRY_COUNT.encode()
_SECONDS: Final = re.compile(rb"\d{1,9}(?:\.\d{1,9})?")


class ClientHeaders:
    """Applies the headers to the context of their request.

    `names` are the lower-case names of the headers. The header `session` names sessions. Without
    authentication, callers are told apart by the credentials that they send; `identifies` is False
    if something else has identified them.
    """

    def __init__(self, session: str = SESSION, *, identifies: bool = True) -> None:
        self._session = session.lower().encode()
        self._identifies = identifies
        names = {_TIMEOUT, *_READ_TIMEOUTS, _RETRY_COUNT, self._session}
        self.names = frozenset(names | {_AUTHORIZATION} if identifies else names)

    def apply(self, headers: Mapping[bytes, bytes], context: RequestContext) -> "RequestTimer":
        """Fill in the context and start the timer of the request; cancel it at its end.

        Values that SDKs send and that make no sense are ignored.

        Raises InvalidRequest for an invalid X-Request-Timeout.
        """
        if self._identifies and (credentials := headers.get(_AUTHORIZATION)):
            context.principal = identify_by_header(credentials)
        if session := headers.get(self._session):
            context.session = session.decode("latin-1")
        count = headers.get(_RETRY_COUNT)
        context.is_client_retry = count is not None and count.isdigit() and count.strip(b"0") != b""
        timeout, read_timeout = None, None
        if (value := headers.get(_TIMEOUT)) is not None:
            timeout = _parse_seconds(value)
            if timeout is None:
                raise InvalidRequest(
                    f"Invalid value for header '{TIMEOUT}': {value[:100].decode('latin-1')!r} is "
                    "not a positive decimal number of seconds, such as 30 or 2.5.",
                    param=TIMEOUT,
                    code="invalid_value",
                )
        for name in _READ_TIMEOUTS:
            if (value := headers.get(name)) is not None:
                read_timeout = _parse_seconds(value)
        return RequestTimer(context, timeout, read_timeout)


@lru_cache(maxsize=256)
def _parse_seconds(value: bytes) -> float | None:
    return (float(value) or None) if _SECONDS.fullmatch(value) else None


class RequestTimer:
    """Cancels the task that works on a request when its time is up, and sets `error`.

    `timeout`, in seconds from now, bounds the whole response. `read_timeout` bounds a response that
    is not streamed, and the wait for the first token of a stream.
    """

    def __init__(
        self, context: RequestContext, timeout: float | None, read_timeout: float | None
    ) -> None:
        self._context = context
        self._timeout = timeout
        self._read_timeout = read_timeout
        self._handle: asyncio.TimerHandle | None = None
        self.error: DeadlineExceeded | None = None
        if timeout is None and read_timeout is None:
            return
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self._loop)
        now = self._loop.time()
        if timeout is not None:
            context.deadline = now + timeout
        if read_timeout is not None and (timeout is None or read_timeout < timeout):
            self._handle = self._loop.call_at(now + read_timeout, self._end_read)
        elif context.deadline is not None:
            self._handle = self._loop.call_at(context.deadline, self._end)

    def cancel(self) -> None:
        """Stop the timer."""
        if self._handle is not None:
            self._handle.cancel()

    def _end_read(self) -> None:
        record = self._context.record
        if not record.stream or record.first_token_at is None:
            self._expire(f"{self._read_timeout:g} seconds, the client's timeout")
        elif self._context.deadline is not None:
            self._handle = self._loop.call_at(self._context.deadline, self._end)

    def _end(self) -> None:
        self._expire(f"{self._timeout:g} seconds, its {TIMEOUT}")

    def _expire(self, limit: str) -> None:
        self._context.cancelled_at = self._loop.time()
        self.error = DeadlineExceeded(f"The response was not complete within {limit}.")
        if self._task is not None:
            self._task.cancel()
