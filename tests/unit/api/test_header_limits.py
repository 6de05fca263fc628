"""A request's first line and headers."""

import pytest

from maxgate.api.header_limits import MAX_HEADER_BYTES, check_host, check_size
from maxgate.errors import HeadersTooLarge, InvalidRequest


@pytest.mark.parametrize(
    "host", [b"", b"localhost", b"LOCALHOST:8000", b"a.b-c_d:1", b"127.0.0.1:80", b"[::1]:8000"]
)
def test_a_host_is_a_name_or_an_address_and_a_port(host: bytes) -> None:
    check_host([(b"accept", b"a b/c"), (b"host", host)])


@pytest.mark.parametrize(
    "host", [b"a/b", b"a?b", b"a#b", b"a b", b"u@a", b"a:b", b"[::1", b"a\\b", b"a,b/", b"\xff"]
)
def test_anything_else_is_refused(host: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Host"):
        check_host([(b"host", host)])


def test_there_is_one_host_or_none() -> None:
    check_host([])
    with pytest.raises(InvalidRequest, match="Host"):
        check_host([(b"host", b"a"), (b"host", b"a")])


def test_a_head_may_have_so_many_bytes_and_no_more() -> None:
    check_size(b"/a", [(b"x", b"y" * (MAX_HEADER_BYTES - 3))])
    with pytest.raises(HeadersTooLarge, match="32768 bytes"):
        check_size(b"/ab", [(b"x", b"y" * (MAX_HEADER_BYTES - 3))])
