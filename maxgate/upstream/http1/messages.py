"""What is sent to an engine, as a request of httpx's."""

from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple

import httpx

from maxgate.upstream.http1.connection import ResponseHead

_PLAIN: Final = "http"
_POST: Final = "POST"
_JSON: Final = (b"content-type", b"application/json")

Origin = tuple[str, int]


class Address(NamedTuple):
    """A route of an engine, and what is the same in all requests to it.

    `origin` is None where a connection needs more than plain TCP. `head` is the request on the wire
    up to the number of bytes in its body.
    """

    url: httpx.URL
    host: bytes
    origin: Origin | None
    head: bytes


@lru_cache(maxsize=256)
def resolve_address(engine: str, path: str) -> Address:
    """The address of a path of the engine with this base URL."""
    url = httpx.URL(engine + path)
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b: %b\r\ncontent-length: " % (
        *(_POST.encode(), url.raw_path, url.netloc),
        *_JSON,
    )
    return Address(url, url.netloc, parse_origin(url), head)


def parse_origin(url: httpx.URL) -> Origin | None:
    """What a plain connection is opened to; None where the URL asks for another kind."""
    return (url.host, url.port or 80) if url.scheme == _PLAIN else None


class EngineRequest(httpx.Request):
    """A JSON body for an engine; httpx's transports, and what stands in for them, take it too.

    httpx's own constructor copies and checks each time what is known of the address already.
    """

    def __init__(self, address: Address, body: bytes, limits: dict[str, Any]) -> None:
        self.method = _POST
        self.url = address.url
        self.stream = httpx.ByteStream(body)
        self.extensions = {"timeout": limits}
        self.origin = address.origin
        self._head = address.head
        self._host = address.host
        self._body = body

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]  # only some transports look
        """As httpx would make them."""
        length = str(len(self._body)).encode()
        return httpx.Headers([(b"host", self._host), _JSON, (b"content-length", length)])

    def message(self) -> bytes:
        """The whole request as it goes on the wire."""
        return b"%b%d\r\n\r\n%b" % (self._head, len(self._body), self._body)


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
