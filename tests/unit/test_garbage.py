"""Resources that a test file leaves open are reported for this file."""

import socket

import pytest

from tests.fakes.garbage import collect_garbage


class Cycle:
    """An object that only the garbage collector frees."""

    def __init__(self, held: socket.socket) -> None:
        self.held = held
        self.itself = self


def test_closed() -> None:
    """Garbage that was closed passes."""
    with socket.socket() as closed:
        Cycle(closed)
    del closed
    collect_garbage("tests/unit/test_some.py")


def test_unclosed() -> None:
    """A socket that nobody closed is reported, with the command that shows its origin."""
    Cycle(socket.socket())
    with pytest.raises(AssertionError, match="unclosed <socket") as caught:
        collect_garbage("tests/unit/test_some.py")
    assert "python -X tracemalloc=25 -m pytest tests/unit/test_some.py" in str(caught.value)
