"""Generate one level of load without a lock or queue between the schedule and the socket."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from maxgate.loadtest.client.client import Client
from maxgate.loadtest.client.failure_text import MAX_KINDS, extract_message
from maxgate.loadtest.client.request_record import RequestRecord
from maxgate.loadtest.messages import Failure, Job, Progress
from maxgate.loadtest.scenarios.requests import RequestSource

GRACE_AFTER_STOP: Final = 1.0
"""Seconds that unfinished requests get if the load ends early."""

BuildBody = Callable[[str | None], bytes]
Send = Callable[[RequestRecord, BuildBody, Callable[[], None]], None]


class Conversation:
    """Sends each turn after the response to the previous one; a failure ends it on that server.

    With two servers, every turn goes to both in sequence, so that both see the same state of the
    machine. `on_end` gets the time at which the last response ended.
    """

    def __init__(
        self,
        index: int,
        sides: Sequence[int],
        source: RequestSource,
        send: Send,
        on_end: Callable[[float], None],
        *,
        max_turns: int | None,
        warmup_turns: int,
    ) -> None:
        self._index, self._source, self._send, self._on_end = index, source, send, on_end
        self._turns = source.conversation(index)[:max_turns]
        self._warmup_turns = warmup_turns
        self._steps = [(turn, side) for turn in range(len(self._turns)) for side in sides]
        self._responses: dict[int, list[str]] = {side: [] for side in sides}
        self._failed: set[int] = set()
        self._first_bodies: dict[int, bytes] = {}

    def prepare(self, models: Sequence[str | None]) -> None:
        """Build the bodies of the first turn now, ahead of their departure."""
        for side, model in enumerate(models):
            self._first_bodies[side] = self._source.body(
                self._turns[0], self._index, model=model, side=side
            )

    def advance(self, due: float) -> None:
        """Send the next request, scheduled at `due`, or end the conversation."""
        while self._steps:
            number, side = self._steps.pop(0)
            if side not in self._failed:
                self._send_turn(number, side, due)
                return
        self._on_end(due)

    def _send_turn(self, number: int, side: int, due: float) -> None:
        turn, source, responses = self._turns[number], self._source, self._responses[side]
        stream = bool(turn.fields.get("stream", source.stream))
        record = RequestRecord(self._index, turn=number, side=side, stream=stream, scheduled=due)
        record.warmup, record.keep_text = number < self._warmup_turns, source.live_responses

        def build_body(model: str | None) -> bytes:
            if number == 0 and side in self._first_bodies:
                return self._first_bodies[side]
            return source.body(turn, self._index, model=model, side=side, responses=responses)

        def on_finished() -> None:
            if record.error is not None:
                self._failed.add(side)
            responses.append("".join(record.response_text))
            self.advance(record.ended)

        self._send(record, build_body, on_finished)


_EXPIRY_INTERVAL: Final = 0.05
_MAX_FAILING_SECONDS: Final = 30.0


class FailureWatch:
    """Collects the first failure of each kind on one server, and notices a hopeless load.

    A load is hopeless if none of its first `max_failures` requests succeeded, or if none has
    succeeded for 30 seconds and as many failures. Slow requests still in flight may succeed, so
    they are awaited.
    """

    def __init__(self, max_failures: int) -> None:
        self._max_failures = max_failures
        self.failures: dict[str, bytes] = {}
        self._succeeded = False
        self._since = 0.0
        self._in_a_row = 0

    def on_success(self, ended: float) -> None:
        """Note the time of the last success."""
        self._succeeded, self._since, self._in_a_row = True, ended, 0

    def on_failure(self, record: RequestRecord, oldest: RequestRecord | None) -> bool:
        """Whether the load is hopeless after this failure; `oldest` is still in flight."""
        if record.error not in self.failures and len(self.failures) < MAX_KINDS:
            self.failures[record.error or ""] = record.failure
        record.failure = b""  # thousands of equal texts would only use memory
        self._in_a_row += 1
        if not self._succeeded and self._in_a_row == self._max_failures:
            self._since = record.sent
        may_succeed = oldest is not None and oldest.sent <= self._since
        if self._in_a_row < self._max_failures or may_succeed:
            return False
        return not self._succeeded or record.ended - self._since >= _MAX_FAILING_SECONDS


class LoadGenerator:
    """Sends, counts and expires requests; subclasses decide when conversations start.

    `request_records` holds every request in order of departure, complete once `run` returns.
    """

    def __init__(
        self,
        job: Job,
        clients: Sequence[Client],
        source: RequestSource,
        *,
        loop: asyncio.AbstractEventLoop,
        monotonic: Callable[[], float],
    ) -> None:
        self.job, self._clients, self._source = job, clients, source
        self._loop, self._monotonic = loop, monotonic
        self.request_records: list[RequestRecord] = []
        self._warmup_turns = source.count_turns(job.load.warmup)
        self._max_turns: Sequence[int] | None = None
        self._succeeded = self._failed = self._chunks = 0
        self._watches = [FailureWatch(job.max_failures) for _ in clients]
        self.gave_up = False
        self._active = 0
        self._stopped = False
        self._ended = loop.create_future()

    @property
    def failures(self) -> list[Failure]:
        """The first failure of each kind and server."""
        return [
            Failure(side=side, kind=kind, message=extract_message(text))
            for side, watch in enumerate(self._watches)
            for kind, text in watch.failures.items()
        ]

    @property
    def progress(self) -> Progress:
        """The counts so far."""
        started = len(self.request_records)
        return Progress(
            started=started,
            succeeded=self._succeeded,
            failed=self._failed,
            in_flight=started - self._succeeded - self._failed,
            chunks=self._chunks,
        )

    async def wait_for_start(self) -> bool:
        """Wait until the job's start time; False if stopped before it."""
        # The event loop rounds to milliseconds and may wake up early.
        while (left := self.job.start - self._monotonic()) > 0 and not self._ended.done():
            await asyncio.wait([self._ended], timeout=left)
        return not self._ended.done()

    async def run(self) -> None:
        """Run until the last response, or until the grace period has passed."""
        expiry = self._loop.create_task(self._expire_requests())
        try:
            self._begin()
            if self.job.load.duration is not None and self.job.load.kind == "closed":
                end = self.job.start + self.job.load.duration
                self._loop.call_later(end - self._monotonic(), self.stop)
            await self._ended
        finally:
            expiry.cancel()
            await asyncio.gather(expiry, return_exceptions=True)
            now = self._monotonic()
            for client in self._clients:
                for record in client.in_flight:
                    record.error, record.ended = "unfinished", now

    def stop(self, grace: float | None = None) -> None:
        """Start no more requests; unfinished ones get `grace` seconds (default: the job's)."""
        if not self._stopped:
            self._stopped = True
            self._loop.call_later(self.job.grace if grace is None else grace, self._end)
        self._end_when_idle()

    def abort(self) -> None:
        """End now."""
        self._stopped = True
        self._end()

    def _begin(self) -> None:
        """Start the first conversations."""
        raise NotImplementedError

    def _after_conversation(self, ended: float) -> None:
        """Called when a conversation has ended, at this time."""

    def _create_conversation(self, index: int, sides: Sequence[int]) -> Conversation:
        return Conversation(
            index,
            sides,
            self._source,
            self._send,
            self._on_conversation_end,
            max_turns=None if self._max_turns is None else self._max_turns[index],
            warmup_turns=self._warmup_turns[index] if index < len(self._warmup_turns) else 0,
        )

    def _start_conversation(self, conversation: Conversation, due: float) -> None:
        self._active += 1
        conversation.advance(due)

    def _send(
        self, record: RequestRecord, build_body: BuildBody, on_finished: Callable[[], None]
    ) -> None:
        def count(record: RequestRecord) -> None:
            self._chunks += record.chunks
            if record.error is None:
                self._succeeded += 1
                self._watches[record.side].on_success(record.ended)
            else:
                self._failed += 1
                self._note_failure(record)
            on_finished()

        self.request_records.append(record)
        body = build_body(self.job.targets[record.side].model)
        self._clients[record.side].send(record, body, count)

    def _note_failure(self, record: RequestRecord) -> None:
        oldest = next(iter(self._clients[record.side].in_flight), None)
        hopeless = self._watches[record.side].on_failure(record, oldest)
        if hopeless and not self.job.keep_going and not self._stopped:
            self.gave_up = True
            self.stop(GRACE_AFTER_STOP)

    def _on_conversation_end(self, ended: float) -> None:
        self._active -= 1
        self._after_conversation(ended)
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        if self._stopped and self._active == 0:
            self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    async def _expire_requests(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_INTERVAL)
            for client in self._clients:
                client.expire(self.job.timeout)
