"""Requests to an engine: what is sent, and how long each part of the response may take."""

import base64
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import httpx

from maxgate.generation.context import RequestContext

Origin = tuple[str, int]


class Route(NamedTuple):
    """One method and path of an engine, prepared once for all requests to it.

    `origin` is the host and port for plain TCP, None if the URL needs more (HTTPS). `head` is the
    request as sent, up to the value of Content-Length, `headers` its headers without Host. The URL
    has no credentials.
    """

    method: str
    url: httpx.URL
    origin: Origin | None
    head: bytes
    headers: list[tuple[bytes, bytes]]


@lru_cache(maxsize=256)
def resolve_route(engine: str, path: str, method: str = "POST") -> Route:
    """Prepare a route of the engine with this base URL; its credentials are sent as Basic."""
    url = httpx.URL(engine + path)
    headers = [(b"content-type", b"application/json")]
    if url.userinfo:
        basic = base64.b64encode(f"{url.username}:{url.password}".encode())
        headers.append((b"authorization", b"Basic " + basic))
        url = url.copy_with(userinfo=b"")  # httpx logs URLs
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%bcontent-length: " % (
        method.encode(),
        url.raw_path,
        url.netloc,
        b"".join([b"%b: %b\r\n" % header for header in headers]),
    )
    origin = (url.host, url.port or 80) if url.scheme == "http" else None
    return Route(method, url, origin, head, headers)


class EngineRequest(NamedTuple):
    """A JSON body for a route of an engine. Timeouts are in seconds.

    `head_timeout` bounds the wait for status and headers, `read_timeout` each wait for more of
    the body. `context` is that of the client's request, if there is one. `headers` are sent in
    addition to those of the route.
    """

    route: Route
    body: bytes
    connect_timeout: float
    head_timeout: float
    read_timeout: float
    context: RequestContext | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
