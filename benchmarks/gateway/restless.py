"""Clients that come, stream or not, and sometimes go before they have their answer."""

import heapq
import random
import select
import socket
import time
from dataclasses import dataclass

from benchmarks.gateway import prompts
from benchmarks.gateway.http_client import READ_SIZE, Target, is_complete, is_success

_LEAVES_WITHIN = 0.02


@dataclass
class _Client:
    """One at a time per place; the connection outlives it unless it leaves."""

    number: int
    socket: socket.socket
    answer: bytes = b""


class RestlessClients:
    """Half of the requests stream, `leaving` of them are left at a random moment."""

    def __init__(self, target: Target, whole: bytes, streamed: bytes, leaving: float) -> None:
        self._target, self._bodies, self._leaving = target, (whole, streamed), leaving
        self._chance = random.Random(1)
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._departures: list[tuple[float, int, int]] = []
        self._begun = 0
        self.left = self.failed = self.ended = 0

    def run(self, until: int, at_once: int = 64) -> None:
        """Until `until` requests have ended, counted from the first run."""
        while len(self._clients) < at_once:
            self._come(self._target.connect())
        while self.ended < until:
            wait = self._departures[0][0] - time.perf_counter() if self._departures else 1.0
            select.select([self._poll], [], [], min(1.0, max(0.0, wait)))
            for number, _ in self._poll.poll(0):
                self._read(number)
            self._let_leave(time.perf_counter())

    def close(self) -> None:
        """Everybody goes."""
        for client in self._clients.values():
            client.socket.close()
        self._poll.close()

    def _come(self, connection: socket.socket) -> None:
        self._begun += 1
        body = prompts.filled(self._bodies[self._chance.random() < 0.5], self._begun)
        connection.sendall(self._target.head(len(body)) + body)
        file = connection.fileno()
        if file not in self._clients:
            self._poll.register(file, select.EPOLLIN)
        self._clients[file] = _Client(self._begun, connection)
        if self._chance.random() < self._leaving:
            when = time.perf_counter() + self._chance.uniform(0, _LEAVES_WITHIN)
            heapq.heappush(self._departures, (when, file, self._begun))

    def _read(self, file: int) -> None:
        client = self._clients[file]
        data = client.socket.recv(READ_SIZE)
        client.answer += data
        if data and not is_complete(client.answer):
            return
        self.ended += 1
        if data and is_success(client.answer):
            self._come(client.socket)
            return
        self.failed += 1
        self._replace(file)

    def _let_leave(self, now: float) -> None:
        while self._departures and self._departures[0][0] <= now:
            _, file, number = heapq.heappop(self._departures)
            client = self._clients.get(file)
            if client is not None and client.number == number:  # or it had its answer in time
                self.left += 1
                self.ended += 1
                self._replace(file)

    def _replace(self, file: int) -> None:
        self._poll.unregister(file)
        self._clients.pop(file).socket.close()
        self._come(self._target.connect())
