"""The protocol between the parent process and a worker: single bytes on a socket pair."""

import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

# A worker starts with these blocked, because their default is to end a process that has no
# handlers yet.
BLOCKED_SIGNALS: Final = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
)


class Command(Enum):
    """A command of the parent. The end of the connection, because the parent died, is DRAIN."""

    RETIRE = b"r"
    """Stop accepting connections, serve the open ones to their end, and exit."""
    DRAIN = b"d"
    """Refuse new requests with 503, finish the running ones, and exit."""
    STOP = b"s"
    """End the wait for running requests."""


class Report(Enum):
    """A report of a worker."""

    READY = b"R"
    """The worker accepts connections."""
    CLOSED = b"C"
    """The worker has stopped accepting connections."""
    TERMINATED = b"T"
    """The worker got SIGTERM and waits for the parent's command."""


@dataclass(slots=True)
class ServingState:
    """State of a worker, shared with its connections.

    `closes_connections`: every response announces the end of its connection. `refuses_requests`:
    new requests get a 503.
    """

    closes_connections: bool = False
    refuses_requests: bool = False


def send(control: socket.socket, message: Command | Report) -> bool:
    """Send a message; False if the other process has ended."""
    try:
        control.sendall(message.value)
    except OSError:
        return False
    return True


def receive(control: socket.socket) -> bytes | None:
    """Return the bytes that have arrived on a non-blocking socket; None at the end."""
    with suppress(BlockingIOError):
        try:
            return control.recv(64) or None
        except ConnectionError:
            return None
    return b""
