"""Errors of the gateway's own machine are told apart from those of engines."""

import errno
import os
import resource
import socket

import pytest

from maxgate.errors import OutOfResources
from maxgate.net.shortage import find_shortage, list_causes


def create_error(number: int) -> OSError:
    """Return the error as the system raises it."""
    return OSError(number, os.strerror(number))


def chain(cause: BaseException) -> RuntimeError:
    """Return an error with this cause."""
    error = RuntimeError("outer")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "resource"),
    [
        (create_error(errno.EMFILE), "file descriptors"),
        (create_error(errno.ENFILE), "file descriptors"),
        (create_error(errno.EADDRNOTAVAIL), "local ports"),
        (create_error(errno.ENOBUFS), "memory"),
        (create_error(errno.ENOMEM), "memory"),
        (MemoryError(), "memory"),
        (chain(create_error(errno.EMFILE)), "file descriptors"),
        (ExceptionGroup("x", [create_error(errno.EMFILE)]), "file descriptors"),
        (OSError("Multiple exceptions: [Errno 24] Too many, [Errno 24] x"), "file descriptors"),
        (chain(OutOfResources("memory")), "memory"),
    ],
)
def test_shortages(error: BaseException, resource: str) -> None:
    """A shortage is found by its number, also as a cause, in a group and in a text."""
    shortage = find_shortage(error)
    assert shortage is not None
    assert shortage.message == f"The gateway is out of {resource}. Try again shortly."


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        create_error(errno.EHOSTUNREACH),
        OSError("Multiple exceptions: [Errno 99] Cannot assign, [Errno 111] Connect call failed"),
        OSError("odd"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ValueError("24"),
    ],
)
def test_other_errors(error: BaseException) -> None:
    """Refused connections, unknown hosts and other errors are no shortages."""
    assert find_shortage(error) is None


def test_cycle() -> None:
    """Errors that are causes of each other are listed once."""
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__context__ = second, first
    assert list_causes(first) == [first, second]


def test_resolver_without_descriptors() -> None:
    """The resolver's errors are shortages while no descriptor can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for error in (create_error(errno.EBUSY), socket.gaierror(socket.EAI_AGAIN, "x")):
        assert find_shortage(error) is None
        with open(os.devnull) as lowest:  # noqa: PTH123
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest.fileno(), hard))
            shortage = find_shortage(error)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert shortage is not None
