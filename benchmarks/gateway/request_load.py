"""Load sources for latency: alternating requests to two servers, and an open loop."""

import gc
import random
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import READ_SIZE, Target, is_complete, is_success

_WARM_UP_REQUESTS = 20
_DRAIN_SECONDS = 5.0


class SequentialClient:
    """Sends one request at a time over one connection."""

    def __init__(self, target: Target, template: bytes) -> None:
        self._head = target.encode_head(len(prompts.fill_template(template, 0)))
        self._template = template
        self._socket: socket.socket = target.connect()
        self._socket.setblocking(True)
        self._number = 0

    def send(self) -> float:
        """Send a request; returns the seconds until its response is complete."""
        self._number += 1
        message = self._head + prompts.fill_template(self._template, self._number)
        began = time.perf_counter()
        self._socket.sendall(message)
        response = b""
        while not is_complete(response):
            data = self._socket.recv(READ_SIZE)
            assert data, "the gateway closed the connection"
            response += data
        seconds = time.perf_counter() - began
        assert is_success(response), response[:200]
        return seconds

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def measure_alternating(
    gateway: Target, engine: Target, template: bytes, seconds: float
) -> tuple[list[float], list[float]]:
    """Send each request through the gateway, then directly to the engine.

    Returns the seconds of each request, through the gateway and directly. Alternation exposes both
    to the same disturbances.
    """
    through, direct = SequentialClient(gateway, template), SequentialClient(engine, template)
    for _ in range(_WARM_UP_REQUESTS):
        through.send(), direct.send()
    gateway_seconds, engine_seconds = [], []
    end = time.perf_counter() + seconds
    gc.disable()
    try:
        while time.perf_counter() < end:
            gateway_seconds.append(through.send())
            engine_seconds.append(direct.send())
    finally:
        gc.enable()
        through.close()
        direct.close()
    return gateway_seconds, engine_seconds


@dataclass
class Latencies:
    """Seconds from the planned departure of each request to the end of its response."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    unanswered: int = 0


class OpenLoop:
    """Sends requests at planned times (Poisson arrivals, seeded) over a pool of connections.

    Latency counts from the planned time, which avoids coordinated omission. On one core with the
    stand-in it sustains about 15,000 requests per second.
    """

    def __init__(self, target: Target, template: bytes, connections: int) -> None:
        # Opened before the sockets, because select() accepts only low file descriptors.
        self._poll = select.epoll()
        self._template = template
        # All bodies have the same length, so all heads are equal.
        self._head = target.encode_head(len(prompts.fill_template(template, 0)))
        self._sockets = {s.fileno(): s for s in (target.connect() for _ in range(connections))}
        self._idle: deque[socket.socket] = deque(self._sockets.values())
        self._sent: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        for number in self._sockets:
            self._poll.register(number, select.EPOLLIN)
        self._number = 0
        self.result = Latencies()

    def run(self, rate: float, seconds: float, seed: int = 1) -> Latencies:
        """Send `rate` requests per second, then wait up to 5 s for the last responses."""
        chance = random.Random(seed)
        due: deque[float] = deque()
        began = now = time.perf_counter()
        end, following = began + seconds, began + chance.expovariate(rate)
        gc.disable()
        try:
            while (now < end or due or self._sent) and now < end + _DRAIN_SECONDS:
                while following <= now and following < end:
                    due.append(following)
                    following += chance.expovariate(rate)
                while due and self._idle:
                    self._send(self._idle.popleft(), due.popleft())
                self._receive(min(following, end) if now < end else now + 0.1)
                now = time.perf_counter()
        finally:
            gc.enable()
        self.result.unanswered += len(due) + len(self._sent)
        return self.result

    def close(self) -> None:
        """Close all connections."""
        self._poll.close()
        for connection in self._sockets.values():
            connection.close()

    def _send(self, connection: socket.socket, due: float) -> None:
        self._number += 1
        connection.sendall(self._head + prompts.fill_template(self._template, self._number))
        self._sent[connection.fileno()] = due

    def _receive(self, until: float) -> None:
        # epoll waits in milliseconds, select in microseconds; select can wait for an epoll.
        select.select([self._poll], [], [], max(0.0, until - time.perf_counter()))
        for number, _ in self._poll.poll(0):
            connection = self._sockets[number]
            data = self._partial.pop(number, b"") + connection.recv(READ_SIZE)
            if not data:
                self._drop(number)
            elif is_complete(data):
                self._finish(number, data)
            else:
                self._partial[number] = data

    def _finish(self, number: int, response: bytes) -> None:
        due = self._sent.pop(number, None)
        self._idle.append(self._sockets[number])
        if due is None or not is_success(response):
            self.result.failed += 1
        else:
            self.result.seconds.append(time.perf_counter() - due)

    def _drop(self, number: int) -> None:
        self._poll.unregister(number)
        self._sockets[number].close()
        self.result.failed += self._sent.pop(number, None) is not None
        if self._sockets[number] in self._idle:
            self._idle.remove(self._sockets[number])
