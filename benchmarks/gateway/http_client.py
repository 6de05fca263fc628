"""A minimal HTTP/1.1 client for the load sources, and a client for the stand-in's own routes."""

import json
import socket
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LENGTH = b"content-length:"
READ_SIZE = 262_144


@dataclass(frozen=True)
class Target:
    """Port on loopback, and headers of every request."""

    port: int
    headers: Mapping[str, str]

    def encode_head(self, length: int) -> bytes:
        """Encode the head of a chat request with a body of `length` bytes."""
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            f"host: 127.0.0.1:{self.port}",
            "content-type: application/json",
            f"content-length: {length}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def connect(self) -> socket.socket:
        """Open a non-blocking connection without Nagle's algorithm."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        return connection


def is_complete(response: bytes) -> bool:
    """Whether the bytes received so far are a complete response."""
    end = response.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = response[: end + 2].lower()
    at = head.find(_LENGTH)
    if at < 0:
        return response.endswith(b"0\r\n\r\n")
    length = int(head[at + len(_LENGTH) : head.index(b"\r\n", at)])
    return len(response) - end - 4 >= length


def is_success(response: bytes) -> bool:
    """Whether the status is 200."""
    return response[9:12] == b"200"


class StandIn:
    """Configures a running stand-in and reads its counts."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def set_script(self, *, tokens: int = 32, gap_ms: int = 0, delay_ms: int = 0) -> None:
        """Set the shape and timing of responses; the arguments are those of stand_in.Script."""
        script = {"tokens": tokens, "gap_ms": gap_ms, "delay_ms": delay_ms}
        with urllib.request.urlopen(self.url + "/script", json.dumps(script).encode(), timeout=9):
            pass

    def fetch_counts(self) -> dict[str, Any]:
        """Fetch the fields of stand_in.Counts."""
        with urllib.request.urlopen(self.url + "/counts", timeout=9) as response:
            counts: dict[str, Any] = json.load(response)
            return counts
