"""What a gateway adds for one client: the same request goes through it and around it in turn.

Whatever else the machine does then meets both.
"""

import gc
import socket
import time

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import READ_SIZE, Target, is_complete, is_success

_WARM_UP = 20


class OneConnection:
    """Sends one request, waits for the whole answer."""

    def __init__(self, target: Target, template: bytes) -> None:
        self._head = target.head(len(prompts.filled(template, 0)))
        self._template = template
        self._socket: socket.socket = target.connect()
        self._socket.setblocking(True)
        self._number = 0

    def seconds(self) -> float:
        """How long one request takes."""
        self._number += 1
        message = self._head + prompts.filled(self._template, self._number)
        began = time.perf_counter()
        self._socket.sendall(message)
        answer = b""
        while not is_complete(answer):
            piece = self._socket.recv(READ_SIZE)
            assert piece, "the gateway hung up"
            answer += piece
        took = time.perf_counter() - began
        assert is_success(answer), answer[:200]
        return took

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def through_and_around(
    gateway: Target, engine: Target, template: bytes, seconds: float
) -> tuple[list[float], list[float]]:
    """Seconds of each request through the gateway, and directly."""
    through, around = OneConnection(gateway, template), OneConnection(engine, template)
    for _ in range(_WARM_UP):
        through.seconds(), around.seconds()
    first, second = [], []
    end = time.perf_counter() + seconds
    gc.disable()
    try:
        while time.perf_counter() < end:
            first.append(through.seconds())
            second.append(around.seconds())
    finally:
        gc.enable()
        through.close()
        around.close()
    return first, second
