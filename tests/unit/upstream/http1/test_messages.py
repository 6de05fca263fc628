"""Routes are prepared once per engine and path."""

import pytest

from maxgate.upstream.http1.messages import resolve_route


def test_head() -> None:
    """The head is the request up to the value of Content-Length."""
    route = resolve_route("http://engine:8080/base", "/v1/x")
    assert (route.method, str(route.url)) == ("POST", "http://engine:8080/base/v1/x")
    assert route.head == (
        b"POST /base/v1/x HTTP/1.1\r\n"
        b"host: engine:8080\r\ncontent-type: application/json\r\ncontent-length: "
    )


def test_credentials() -> None:
    """Credentials are sent as Basic, percent-decoded, and are no part of the URL."""
    route = resolve_route("http://us%40er:p%3Ass@engine:8080", "/v1/x")
    basic = b"authorization: Basic dXNAZXI6cDpzcw==\r\n"  # us@er:p:ss
    assert (str(route.url), basic in route.head) == ("http://engine:8080/v1/x", True)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://engine:8080", ("engine", 8080)),
        ("http://engine/base", ("engine", 80)),
        ("http://[::1]:9", ("::1", 9)),
        ("https://engine", None),
    ],
)
def test_origin(url: str, origin: tuple[str, int] | None) -> None:
    """Only plain HTTP has an origin."""
    assert resolve_route(url, "/v1/x").origin == origin
