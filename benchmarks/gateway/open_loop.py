"""A load source that does not wait for answers: requests leave when they are due.

Their times are drawn once (Poisson, seeded) and latency counts from them, so that a gateway that
falls behind cannot hide it. On one core with the stand-in it holds about 15,000 requests a second.
"""

import gc
import random
import select
import socket
import time
from collections import deque
from dataclasses import dataclass, field

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import READ_SIZE, Target, is_complete, is_success

_DRAIN_SECONDS = 5.0


@dataclass
class Latencies:
    """Seconds from the time that each request was due to its whole answer."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    unanswered: int = 0


class OpenLoop:
    """Some connections to one target, used in turn."""

    def __init__(self, target: Target, template: bytes, connections: int) -> None:
        # Made first, because select takes low file numbers only.
        self._poll = select.epoll()
        self._template = template
        # Every body has the same length, so every head is the same.
        self._head = target.head(len(prompts.filled(template, 0)))
        self._sockets = {s.fileno(): s for s in (target.connect() for _ in range(connections))}
        self._idle: deque[socket.socket] = deque(self._sockets.values())
        self._sent: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        for number in self._sockets:
            self._poll.register(number, select.EPOLLIN)
        self._number = 0
        self.result = Latencies()

    def run(self, rate: float, seconds: float, seed: int = 1) -> Latencies:
        """Send `rate` a second, and wait a little for the last answers."""
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
        """Hang up."""
        self._poll.close()
        for connection in self._sockets.values():
            connection.close()

    def _send(self, connection: socket.socket, due: float) -> None:
        self._number += 1
        connection.sendall(self._head + prompts.filled(self._template, self._number))
        self._sent[connection.fileno()] = due

    def _receive(self, until: float) -> None:
        # epoll alone counts in milliseconds; select counts in microseconds, and an epoll is a file.
        select.select([self._poll], [], [], max(0.0, until - time.perf_counter()))
        for number, _ in self._poll.poll(0):
            connection = self._sockets[number]
            data = self._partial.pop(number, b"") + connection.recv(READ_SIZE)
            if not data:
                self._hung_up(number)
            elif is_complete(data):
                self._done(number, data)
            else:
                self._partial[number] = data

    def _done(self, number: int, answer: bytes) -> None:
        due = self._sent.pop(number, None)
        self._idle.append(self._sockets[number])
        if due is None or not is_success(answer):
            self.result.failed += 1
        else:
            self.result.seconds.append(time.perf_counter() - due)

    def _hung_up(self, number: int) -> None:
        self._poll.unregister(number)
        self._sockets[number].close()
        self.result.failed += self._sent.pop(number, None) is not None
        if self._sockets[number] in self._idle:
            self._idle.remove(self._sockets[number])
