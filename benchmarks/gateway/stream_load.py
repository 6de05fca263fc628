"""Load sources for streams: many concurrent readers, and clients that disconnect early."""

import heapq
import random
import select
import socket
import time
from dataclasses import dataclass

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import READ_SIZE, Target, is_complete, is_success

_EVENT = b"data: "
_MAX_PATIENCE = 0.02  # seconds


class StreamReaders:
    """Concurrent streams; counts their events as they arrive."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self.events = 0
        self.ended = 0

    def open(self, target: Target, template: bytes, count: int, seconds: float) -> None:
        """Open `count` streams, spread evenly over `seconds`, so that they are out of phase."""
        began = time.perf_counter()
        for number in range(count):
            connection = target.connect()
            body = prompts.fill_template(template, number)
            connection.sendall(target.encode_head(len(body)) + body)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection.fileno(), select.EPOLLIN)
            self.read(began + seconds * (number + 1) / count - time.perf_counter())

    def read(self, seconds: float) -> None:
        """Read all streams for `seconds`."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            # epoll waits in milliseconds, select in microseconds; select can wait for an epoll.
            select.select([self._poll], [], [], left)
            for number, _ in self._poll.poll(0):
                data = self._sockets[number].recv(READ_SIZE)
                self.events += data.count(_EVENT)
                if not data:
                    self._drop(number)
                    self.ended += 1

    def close(self) -> None:
        """Disconnect all clients in the middle of their streams."""
        for number in list(self._sockets):
            self._drop(number)
        self._poll.close()

    def _drop(self, number: int) -> None:
        self._poll.unregister(number)
        self._sockets.pop(number).close()


@dataclass
class _Request:
    number: int
    socket: socket.socket
    response: bytes = b""


class DisconnectingClients:
    """Closed-loop clients of which a share disconnects before its response is complete.

    Half of the requests stream. Disconnects happen at a random time within 20 ms.
    """

    def __init__(
        self, target: Target, whole: bytes, streamed: bytes, disconnect_share: float
    ) -> None:
        self._target = target
        self._bodies = (whole, streamed)
        self._disconnect_share = disconnect_share
        self._chance = random.Random(1)
        self._poll = select.epoll()
        self._requests: dict[int, _Request] = {}
        self._disconnects: list[tuple[float, int, int]] = []
        self._sent = 0
        self.disconnected = self.failed = self.ended = 0

    def run(self, until: int, concurrency: int = 64) -> None:
        """Run until `until` requests have ended, counted from the first run."""
        while len(self._requests) < concurrency:
            self._send(self._target.connect())
        while self.ended < until:
            wait = self._disconnects[0][0] - time.perf_counter() if self._disconnects else 1.0
            select.select([self._poll], [], [], min(1.0, max(0.0, wait)))
            for number, _ in self._poll.poll(0):
                self._read(number)
            self._disconnect_due(time.perf_counter())

    def close(self) -> None:
        """Disconnect all clients."""
        for request in self._requests.values():
            request.socket.close()
        self._poll.close()

    def _send(self, connection: socket.socket) -> None:
        self._sent += 1
        body = prompts.fill_template(self._bodies[self._chance.random() < 0.5], self._sent)
        connection.sendall(self._target.encode_head(len(body)) + body)
        file = connection.fileno()
        if file not in self._requests:
            self._poll.register(file, select.EPOLLIN)
        self._requests[file] = _Request(self._sent, connection)
        if self._chance.random() < self._disconnect_share:
            when = time.perf_counter() + self._chance.uniform(0, _MAX_PATIENCE)
            heapq.heappush(self._disconnects, (when, file, self._sent))

    def _read(self, file: int) -> None:
        request = self._requests[file]
        data = request.socket.recv(READ_SIZE)
        request.response += data
        if data and not is_complete(request.response):
            return
        self.ended += 1
        if data and is_success(request.response):
            self._send(request.socket)
            return
        self.failed += 1
        self._reconnect(file)

    def _disconnect_due(self, now: float) -> None:
        while self._disconnects and self._disconnects[0][0] <= now:
            _, file, number = heapq.heappop(self._disconnects)
            request = self._requests.get(file)
            # A different number means that the response was complete in time.
            if request is not None and request.number == number:
                self.disconnected += 1
                self.ended += 1
                self._reconnect(file)

    def _reconnect(self, file: int) -> None:
        self._poll.unregister(file)
        self._requests.pop(file).socket.close()
        self._send(self._target.connect())
