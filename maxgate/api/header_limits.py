"""Limits on the request line and headers, checked before the application sees a request."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from starlette.types import Scope

from maxgate.errors import HeadersTooLarge, InvalidRequest

MAX_HEADER_BYTES: Final = 32 * 1024
"""Request line and headers together."""
# RFC 3986, section 3.2: a name or address, and a port.
_HOST: Final = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:]+\])(?::\d*)?", re.ASCII)

Headers = Sequence[tuple[bytes, bytes]]


def check_host(headers: Headers) -> None:
    """Raise InvalidRequest for a repeated or malformed Host header (RFC 9112, section 3.2).

    A missing Host is accepted, since nothing here depends on it.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if hosts and (len(hosts) > 1 or not is_valid_host(hosts[0])):
        raise InvalidRequest("The Host header must name exactly one host.")


@lru_cache(maxsize=256)
def is_valid_host(value: bytes) -> bool:
    """Whether the value of a Host header names one host."""
    return _HOST.fullmatch(value) is not None


def check_size(url: bytes, headers: Headers) -> None:
    """Raise HeadersTooLarge above MAX_HEADER_BYTES."""
    if len(url) + sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        raise HeadersTooLarge(
            f"The request line and headers are larger than {MAX_HEADER_BYTES} bytes. "
            "Remove headers, or move the data into the body."
        )


def check_framing(headers: Headers) -> None:
    """Raise InvalidRequest for ambiguous body lengths, which allow request smuggling.

    RFC 9112, section 6.3.
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    has_encoding = any(name == b"transfer-encoding" for name, _ in headers)
    if len(set(lengths)) > 1 or (lengths and has_encoding):
        raise InvalidRequest("The request has more than one body length; send Content-Length once.")


def check_headers(scope: Scope) -> None:
    """Run every check that ASGI allows, for servers that do not check by themselves."""
    headers = scope["headers"]
    check_size(scope.get("raw_path") or scope["path"].encode(), headers)
    check_host(headers)
    check_framing(headers)
