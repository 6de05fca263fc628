"""What may stand in a request's first line and headers."""

import re
from collections.abc import Sequence
from typing import Final

from maxgate.errors import HeadersTooLarge, InvalidRequest

LARGEST_HEAD: Final = 32 * 1024
"""Bytes of the first line and the headers together."""
# RFC 3986, section 3.2: a name or address, and a port.
_HOST: Final = re.compile(rb"(?:[\w.~!$&'()*+,;=%-]*|\[[\w.:]+\])(?::\d*)?", re.ASCII)


Headers = Sequence[tuple[bytes, bytes]]


def check_host(headers: Headers) -> None:
    """Raise InvalidRequest for several Hosts, or one that names no host.

    RFC 9112, section 3.2, asks for it. A request that carries none is served: nothing here depends
    on it.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if hosts and (len(hosts) > 1 or _HOST.fullmatch(hosts[0]) is None):
        raise InvalidRequest("The Host header is not the name of one host.")


def check_size(url: bytes, headers: Headers) -> None:
    """Raise HeadersTooLarge where it is more than LARGEST_HEAD."""
    if len(url) + sum(len(name) + len(value) for name, value in headers) > LARGEST_HEAD:
        raise HeadersTooLarge(f"The head of the request is larger than {LARGEST_HEAD} bytes.")
