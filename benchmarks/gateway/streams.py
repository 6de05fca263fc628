"""Many clients that read streams, all in one place."""

import select
import socket
import time

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import READ_SIZE, Target

_MARK = b"data: "


class Streams:
    """Streams that are open at the same time; counts events as they come."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self.events = 0
        self.ended = 0

    def open(self, target: Target, template: bytes, count: int, seconds: float) -> None:
        """Begin `count` more, spread over `seconds`, so that they do not breathe as one."""
        began = time.perf_counter()
        for number in range(count):
            connection = target.connect()
            body = prompts.filled(template, number)
            connection.sendall(target.head(len(body)) + body)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection.fileno(), select.EPOLLIN)
            self.read(began + seconds * (number + 1) / count - time.perf_counter())

    def read(self, seconds: float) -> None:
        """Take what comes for so long."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            # select waits for microseconds, which epoll by itself cannot.
            select.select([self._poll], [], [], left)
            for number, _ in self._poll.poll(0):
                data = self._sockets[number].recv(READ_SIZE)
                self.events += data.count(_MARK)
                if not data:
                    self._drop(number)
                    self.ended += 1

    def close(self) -> None:
        """Every client goes, in the middle of its answer."""
        for number in list(self._sockets):
            self._drop(number)
        self._poll.close()

    def _drop(self, number: int) -> None:
        self._poll.unregister(number)
        self._sockets.pop(number).close()
