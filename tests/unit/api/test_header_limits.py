"""Limits of the request line and headers."""

import pytest

from maxgate.api.header_limits import MAX_HEADER_BYTES, check_host, check_size
from maxgate.errors import HeadersTooLarge, InvalidRequest


@pytest.mark.parametrize(
    "host", [b"", b"localhost", b"LOCALHOST:8000", b"a.b-c_d:1", b"127.0.0.1:80", b"[::1]:8000"]
)
def test_valid_host(host: bytes) -> None:
    """A host is a name or address with an optional port; check_host raises nothing."""
    check_host([(b"accept", b"a b/c"), (b"host", host)])


@pytest.mark.parametrize(
    "host", [b"a/b", b"a?b", b"a#b", b"a b", b"u@a", b"a:b", b"[::1", b"a\\b", b"a,b/", b"\xff"]
)
def test_invalid_host(host: bytes) -> None:
    """A Host with any other character is rejected."""
    with pytest.raises(InvalidRequest, match="Host"):
        check_host([(b"host", host)])


def test_number_of_hosts() -> None:
    """At most one Host header is allowed."""
    check_host([])
    with pytest.raises(InvalidRequest, match="Host"):
        check_host([(b"host", b"a"), (b"host", b"a")])


def test_size_limit() -> None:
    """MAX_HEADER_BYTES pass, and one byte more raises HeadersTooLarge."""
    check_size(b"/a", [(b"x", b"y" * (MAX_HEADER_BYTES - 3))])
    with pytest.raises(HeadersTooLarge, match="32768 bytes"):
        check_size(b"/ab", [(b"x", b"y" * (MAX_HEADER_BYTES - 3))])
