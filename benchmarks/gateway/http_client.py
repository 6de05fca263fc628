"""What the project's own load sources know of HTTP/1.1: just enough, and fast."""

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
    """Where requests go."""

    port: int
    headers: Mapping[str, str]

    def head(self, length: int) -> bytes:
        """What stands before a chat request's body of `length` bytes."""
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            f"host: 127.0.0.1:{self.port}",
            "content-type: application/json",
            f"content-length: {length}",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def connect(self) -> socket.socket:
        """A connection that sends at once and never waits."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        return connection


def is_complete(answer: bytes) -> bool:
    """Whether all of an answer is there."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = answer[: end + 2].lower()
    at = head.find(_LENGTH)
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    length = int(head[at + len(_LENGTH) : head.index(b"\r\n", at)])
    return len(answer) - end - 4 >= length


def is_success(answer: bytes) -> bool:
    """Whether the status is 200."""
    return answer[9:12] == b"200"


class StandIn:
    """The stand-in's own routes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def follow(self, *, tokens: int = 32, gap_ms: int = 0, delay_ms: int = 0) -> None:
        """See stand_in.Script."""
        script = {"tokens": tokens, "gap_ms": gap_ms, "delay_ms": delay_ms}
        with urllib.request.urlopen(self.url + "/script", json.dumps(script).encode(), timeout=9):
            pass

    def counts(self) -> dict[str, Any]:
        """See stand_in.Counts."""
        with urllib.request.urlopen(self.url + "/counts", timeout=9) as answer:
            counts: dict[str, Any] = json.load(answer)
            return counts
