"""What is still to be said, in order of time, and what was noted of it."""

import asyncio
import threading
import time
from heapq import heappop, heappush

from maxgate.loadtest.client.connection import ImmediateWriter
from maxgate.loadtest.client.timing import Alarm, alarm
from maxgate.loadtest.mock_server.script import Packet, Script, packets, refusal, whole_answer


class Note:
    """When a request came and when each of its outputs was written; monotonic seconds."""

    __slots__ = ("key", "received", "writes")

    def __init__(self, key: str, received: float) -> None:
        self.key = key
        self.received = received
        self.writes: list[float] = []


class Stage:
    """The script, and everything that is still to be said, in order of time."""

    def __init__(self, script: Script) -> None:
        self.notes: list[Note] = []
        self._queue: list[tuple[float, int, Answer]] = []
        self._sequence = 0
        self._alarm: Alarm | None = None
        self._began: float | None = None
        self._ringing = False
        self.play(script)

    def play(self, script: Script) -> None:
        """Follow this script from now on."""
        self.script, self.packets = script, packets(script)
        self.whole, self.refusal = whole_answer(script), refusal()
        self._frozen = script.freeze_after is None
        self._began = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use this loop's time."""
        self._alarm = alarm(loop, self._ring, time.perf_counter)

    def later(self, when: float, answer: "Answer") -> None:
        """Call the answer at this time."""
        self._sequence += 1
        heappush(self._queue, (when, self._sequence, answer))
        if self._queue[0][2] is answer and self._alarm is not None and not self._ringing:
            self._alarm.set(when)

    def freeze_if_due(self) -> None:
        """Stand still, once, when the script says so; `GET` and `PUT` included."""
        now = time.perf_counter()
        if self._began is None:
            self._began = now
        if not self._frozen and now - self._began >= (self.script.freeze_after or 0.0):
            self._frozen = True
            threading.Event().wait(self.script.freeze)

    def _ring(self) -> None:
        self.freeze_if_due()
        queue = self._queue
        self._ringing = True
        while queue and queue[0][0] <= time.perf_counter():
            heappop(queue)[2].say()
        self._ringing = False
        if queue and self._alarm is not None:
            self._alarm.set(queue[0][0])


class Answer:
    """One stream that is being said."""

    __slots__ = ("_next", "_note", "_packets", "_stage", "_transport", "_writer")

    def __init__(
        self, stage: Stage, transport: asyncio.Transport, said: list[Packet], note: Note
    ) -> None:
        self._stage, self._transport, self._note = stage, transport, note
        self._writer = ImmediateWriter(transport)
        self._packets, self._next = said, 0

    def start(self) -> None:
        """Wait for the first packet's time, or say it at once."""
        self._stage.later(self._note.received + self._packets[0].after, self)

    def say(self) -> None:
        """Say what is due."""
        packet = self._packets[self._next]
        if self._transport.is_closing():
            return
        writes = self._note.writes
        for _ in range(packet.outputs):
            writes.append(time.perf_counter())  # mostly one
        self._writer.write(packet.data)
        self._next += 1
        if self._next < len(self._packets):
            self._stage.later(self._note.received + self._packets[self._next].after, self)
