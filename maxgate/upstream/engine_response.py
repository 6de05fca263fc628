"""What an engine answers, as a response of httpx's."""

from functools import cached_property
from typing import Any

import httpx

from maxgate.upstream.connection import ResponseHead


class EngineResponse(httpx.Response):
    """The answer to an EngineRequest: status, headers and a body that is still to be read.

    httpx's own constructor makes ready for decoding, redirects and cookies, and sorts the headers,
    which nobody looks at where an engine answers.
    """

    def __init__(self, head: ResponseHead, stream: httpx.AsyncByteStream) -> None:
        self.status_code = head.status
        self.stream = stream
        self.extensions: dict[str, Any] = {}
        self._head = head

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]  # made for those who look
        """As httpx would make them."""
        return httpx.Headers(self._head.headers)
