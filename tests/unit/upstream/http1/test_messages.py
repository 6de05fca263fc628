"""A request to an engine: the same on the wire and in httpx's words."""

import pytest

from maxgate.upstream.http1.messages import EngineRequest, resolve_address


def test_the_message_is_what_its_parts_say() -> None:
    request = EngineRequest(resolve_address("http://engine:8080", "/v1/x"), b'{"a":1}', {"read": 5})
    assert request.message() == (
        b"POST /v1/x HTTP/1.1\r\n"
        b"host: engine:8080\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n"
        b'{"a":1}'
    )
    assert (request.method, str(request.url)) == ("POST", "http://engine:8080/v1/x")
    assert request.headers == {
        "host": "engine:8080",
        "content-type": "application/json",
        "content-length": "7",
    }
    assert (request.read(), request.extensions) == (b'{"a":1}', {"timeout": {"read": 5}})


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://engine:8080", ("engine", 8080)),
        ("http://engine/base", ("engine", 80)),
        ("http://[::1]:9", ("::1", 9)),
        ("https://engine", None),
    ],
)
def test_only_plain_http_has_an_origin(url: str, origin: tuple[str, int] | None) -> None:
    assert resolve_address(url, "/v1/x").origin == origin
