"""Play the script: send packets when they are due, and record when each was sent."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from heapq import heappop, heappush

from maxgate.loadtest.client.connection import ImmediateWriter
from maxgate.loadtest.client.timing import Alarm, create_alarm
from maxgate.loadtest.mock_server.script import (
    Packet,
    Script,
    build_packets,
    build_refusal,
    build_whole_response,
)


@dataclass(slots=True)
class ServerTimestamps:
    """When the mock server received a request and wrote each output; monotonic seconds."""

    request_id: str
    received: float
    writes: list[float] = field(default_factory=list)


class ScriptPlayer:
    """Sends the packets of all responses when they are due."""

    def __init__(self, script: Script) -> None:
        self.timestamps: list[ServerTimestamps] = []
        self._queue: list[tuple[float, int, ScheduledResponse]] = []
        self._sequence = 0
        self._alarm: Alarm | None = None
        self._first_request: float | None = None
        self._sending = False
        self.play(script)

    def play(self, script: Script) -> None:
        """Follow this script from the next request on."""
        self.script, self.packets = script, build_packets(script)
        self.whole_response, self.refusal = build_whole_response(script), build_refusal()
        self._frozen = script.freeze_after is None
        self._first_request = None

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use the timers of this event loop."""
        self._alarm = create_alarm(loop, self._send_due, time.perf_counter)

    def schedule(self, when: float, response: "ScheduledResponse") -> None:
        """Send the next packet of the response at this time."""
        self._sequence += 1
        heappush(self._queue, (when, self._sequence, response))
        if self._queue[0][2] is response and self._alarm is not None and not self._sending:
            self._alarm.set(when)

    def freeze_if_due(self) -> None:
        """Block the whole server once, at the time in the script."""
        now = time.perf_counter()
        if self._first_request is None:
            self._first_request = now
        if not self._frozen and now - self._first_request >= (self.script.freeze_after or 0.0):
            self._frozen = True
            threading.Event().wait(self.script.freeze)

    def _send_due(self) -> None:
        self.freeze_if_due()
        queue = self._queue
        self._sending = True
        while queue and queue[0][0] <= time.perf_counter():
            heappop(queue)[2].send_next()
        self._sending = False
        if queue and self._alarm is not None:
            self._alarm.set(queue[0][0])


class ScheduledResponse:
    """One response on its way; each packet schedules the next one."""

    __slots__ = ("_next", "_packets", "_player", "_timestamps", "_transport", "_writer")

    def __init__(
        self,
        player: ScriptPlayer,
        transport: asyncio.Transport,
        packets: list[Packet],
        timestamps: ServerTimestamps,
    ) -> None:
        self._player, self._transport, self._timestamps = player, transport, timestamps
        self._writer = ImmediateWriter(transport)
        self._packets, self._next = packets, 0

    def start(self) -> None:
        """Schedule the first packet."""
        self._player.schedule(self._timestamps.received + self._packets[0].after, self)

    def send_next(self) -> None:
        """Send the next packet, unless the client has disconnected."""
        packet = self._packets[self._next]
        if self._transport.is_closing():
            return
        # Read the clock before the write, which may already wake the client.
        for _ in range(packet.outputs):
            self._timestamps.writes.append(time.perf_counter())
        self._writer.write(packet.data)
        self._next += 1
        if self._next < len(self._packets):
            self._player.schedule(self._timestamps.received + self._packets[self._next].after, self)
