"""Text of the log lines about requests and workers."""

import pytest

from maxgate.server.shutdown import describe_exit, format_requests


@pytest.mark.parametrize(("count", "text"), [(1, "1 request"), (3, "3 requests")])
def test_requests(count: int, text: str) -> None:
    """The number of requests has the right noun."""
    assert format_requests(count) == text


@pytest.mark.parametrize(
    ("code", "text"), [(-9, "SIGKILL"), (-7, "SIGBUS"), (1, "exit code 1"), (-40, "signal 40")]
)
def test_exits(code: int, text: str) -> None:
    """A signal has its name if there is one."""
    assert describe_exit(code) == text
