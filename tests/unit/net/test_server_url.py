"""URLs of servers, as users copy them from clients and other tools."""

import pytest

from maxgate.errors import ConfigurationError
from maxgate.net.server_url import ServerUrl, hide_credentials, parse_server_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:8000", "http://localhost:8000"),
        ("http://h", "http://h:80"),
        ("https://h/", "https://h:443"),
        ("HTTP://H:8000", "http://h:8000"),
        (" http://h:1/v1 ", "http://h:1"),
        ("http://h:1/v1/", "http://h:1"),
        ("http://h:1/v1/chat/completions", "http://h:1"),
        ("http://h:1/v1/completions", "http://h:1"),
        ("http://h:1/v1/models", "http://h:1"),
        ("http://h:1/chat/completions", "http://h:1"),
        ("http://h:1/metrics", "http://h:1"),
        ("https://h/tenant/v1/chat/completions", "https://h:443/tenant"),
        ("https://h/tenant", "https://h:443/tenant"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("http://u:p@h:1/v1?key=x", "http://h:1"),
    ],
)
def test_forms(text: str, url: str) -> None:
    """Every form of the URL leads to the same server."""
    assert parse_server_url(text).url == url


def test_user() -> None:
    """User and password are decoded and kept out of the URL."""
    found = parse_server_url("http://a%40b:p%3A1@h:1")
    assert found == ServerUrl("h", 1, tls=False, path="", user="a@b", password="p:1")


@pytest.mark.parametrize(
    "text", ["", "ftp://h", "http://", "http://h:x", "http://h:70000", "http://h:0", "http://a b"]
)
def test_invalid(text: str) -> None:
    """The error starts with the flag and the value."""
    with pytest.raises(ConfigurationError, match=rf"^--baseline {text}: "):
        parse_server_url(text, "--baseline")


def test_invalid_url_with_password() -> None:
    """An error shows no password."""
    with pytest.raises(ConfigurationError, match=r"^--url ftp://h: "):
        parse_server_url("ftp://u:secret@h")


def test_hide_credentials() -> None:
    """User names, passwords and keys are hidden, the rest stays."""
    text = "GET http://u:p@h/v1?api_key=abc&x=1#f and https://h/?a=1&access-token=t"
    expected = "GET http://h/v1?api_key=***&x=1#f and https://h/?a=1&access-token=***"
    assert hide_credentials(text) == expected
