"""Credentials stay out of the report."""

import pytest

from maxgate.loadtest.messages import Target
from maxgate.loadtest.options import Options
from maxgate.loadtest.redaction import (
    find_option_secrets,
    find_secrets,
    is_secret,
    redact,
    redact_command,
)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        (["--api-key", "sk-12345"], ["--api-key", "***"]),
        (["--api-key=sk-12345"], ["--api-key=***"]),
        (["--api-key", "x"], ["--api-key", "***"]),
        (["--header", "Authorization: Bearer tok-67890"], ["--header", "Authorization: ***"]),
        (["-H", "authorization:Bearer tok-67890"], ["-H", "authorization:***"]),
        (["-HX-API-Key: key-0"], ["-HX-API-Key: ***"]),
        (["--header=cookie: a=secret-1"], ["--header=cookie: ***"]),
        (["-H", "x-class: batch"], ["-H", "x-class: batch"]),
        (["--url", "http://u:pass@h:1/v1"], ["--url", "http://h:1/v1"]),
        (["--baseline=http://h/?api_key=k"], ["--baseline=http://h/?api_key=***"]),
        (["--body", '{"user": "tok-67890"}'], ["--body", '{"user": "***"}']),
    ],
)
def test_command(command: list[str], shown: list[str]) -> None:
    """Keys, secret headers and credentials in URLs are masked, wherever they stand."""
    headers = {
        "authorization": "Bearer tok-67890",
        "x-api-key": "key-0",
        "cookie": "a=secret-1",
        "x-class": "batch",
    }
    secrets = find_option_secrets(Options(api_key="sk-12345", headers=headers))
    assert redact_command(["load_test.py", *command], secrets) == ["load_test.py", *shown]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("authorization", True),
        ("proxy-authorization", True),
        ("x-api-key", True),
        ("ocp-apim-subscription-key", True),
        ("x-amz-security-token", True),
        ("x-request-class", False),
        ("content-type", False),
    ],
)
def test_secret_headers(name: str, secret: bool) -> None:
    """Headers with credentials are known by their names."""
    assert is_secret(name) is secret


def test_message_of_a_server() -> None:
    """A key that the server repeats in its error is masked."""
    target = Target(url="http://h", model=None, headers={"authorization": "Bearer sk-123"})
    found = redact("Incorrect API key provided: sk-123.", find_secrets([target]))
    assert found == "Incorrect API key provided: ***."
