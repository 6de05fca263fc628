"""Driving one level of load: who sends what when, without a lock or a queue on the way."""

import asyncio
from collections.abc import Callable, Sequence

from maxgate.loadtest.client.client import Client
from maxgate.loadtest.client.request_record import Exchange
from maxgate.loadtest.messages import Job, Progress
from maxgate.loadtest.scenarios.requests import RequestSource

Body = Callable[[str | None], bytes]
Send = Callable[[Exchange, Body, Callable[[], None]], None]


class Conversation:
    """Sends a turn when the one before it was answered; a failure ends the conversation's side.

    With two sides every turn goes to one and then to the other, so that they meet the same state of
    the machine.
    """

    def __init__(
        self,
        index: int,
        sides: Sequence[int],
        source: RequestSource,
        send: Send,
        over: Callable[[float], None],
    ) -> None:
        self._index, self._source, self._send, self._over = index, source, send, over
        self._turns = source.conversation(index)
        self._steps = [(turn, side) for turn in range(len(self._turns)) for side in sides]
        self._answers: dict[int, list[str]] = {side: [] for side in sides}
        self._failed: set[int] = set()
        self._first: dict[int, bytes] = {}
        self.warmup = False

    def prepare(self, models: Sequence[str | None]) -> None:
        """Make the first turn's bytes now, so that they need not be made when they are due."""
        for side, model in enumerate(models):
            self._first[side] = self._source.body(
                self._turns[0], self._index, model=model, side=side
            )

    def advance(self, due: float) -> None:
        """Send what comes next, which could leave from `due` on; or say that it is over."""
        while self._steps:
            number, side = self._steps.pop(0)
            if side not in self._failed:
                self._step(number, side, due)
                return
        self._over(due)

    def _step(self, number: int, side: int, due: float) -> None:
        turn, source, answers = self._turns[number], self._source, self._answers[side]
        stream = bool(turn.fields.get("stream", source.stream))
        exchange = Exchange(self._index, turn=number, side=side, stream=stream, scheduled=due)
        exchange.warmup, exchange.keep_text = self.warmup, source.live_answers

        def body(model: str | None) -> bytes:
            if number == 0 and side in self._first:
                return self._first[side]
            return source.body(turn, self._index, model=model, side=side, answers=answers)

        def done() -> None:
            if exchange.error is not None:
                self._failed.add(side)
            answers.append("".join(exchange.answer_text))
            self.advance(exchange.ended)

        self._send(exchange, body, done)


_SWEEP_EVERY = 0.05


class Runner:
    """What closed and open loop share: sending, counting, timeouts, and an orderly end.

    `start` and `end` of the job are times of the monotonic clock. `exchanges` holds every request
    in order of departure, and is complete when `run` returns.
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
        self.exchanges: list[Exchange] = []
        self._succeeded = self._failed = self._chunks = 0
        self._active = 0
        self._stopped = False
        self._over = loop.create_future()

    @property
    def progress(self) -> Progress:
        """How far it is."""
        started = len(self.exchanges)
        return Progress(
            started=started,
            succeeded=self._succeeded,
            failed=self._failed,
            in_flight=started - self._succeeded - self._failed,
            chunks=self._chunks,
        )

    async def reach_start(self) -> bool:
        """Wait for the job's start; False where it was stopped before."""
        # The event loop rounds to milliseconds and may wake us before the time.
        while (left := self.job.start - self._monotonic()) > 0 and not self._over.done():
            await asyncio.wait([self._over], timeout=left)
        return not self._over.done()

    async def run(self) -> None:
        """Until the last answer, or until what is under way has had its grace."""
        expiry = self._loop.create_task(self._expire())
        try:
            self._begin()
            if self.job.load.duration is not None and self.job.load.kind == "closed":
                end = self.job.start + self.job.load.duration
                self._loop.call_later(end - self._monotonic(), self.stop)
            await self._over
        finally:
            expiry.cancel()
            await asyncio.gather(expiry, return_exceptions=True)
            self._abandon()

    def stop(self, grace: float | None = None) -> None:
        """Start nothing more; what is under way gets this many seconds."""
        if not self._stopped:
            self._stopped = True
            self._loop.call_later(self.job.grace if grace is None else grace, self._end)
        self._end_when_idle()

    def cut(self) -> None:
        """End now."""
        self._stopped = True
        self._end()

    def _begin(self) -> None:
        raise NotImplementedError

    def _conversation_over(self, ended: float) -> None:
        raise NotImplementedError

    def _converse(self, index: int, sides: Sequence[int], due: float, *, warmup: bool) -> None:
        self._begin_conversation(self._conversation(index, sides, warmup=warmup), due)

    def _conversation(self, index: int, sides: Sequence[int], *, warmup: bool) -> Conversation:
        conversation = Conversation(index, sides, self._source, self._send, self._conversed)
        conversation.warmup = warmup
        return conversation

    def _begin_conversation(self, conversation: Conversation, due: float) -> None:
        self._active += 1
        conversation.advance(due)

    def _send(
        self, exchange: Exchange, turn_body: Callable[[str | None], bytes], done: Callable[[], None]
    ) -> None:
        def finished(exchange: Exchange) -> None:
            self._chunks += exchange.chunks
            if exchange.error is None:
                self._succeeded += 1
            else:
                self._failed += 1
            done()

        self.exchanges.append(exchange)
        body = turn_body(self.job.peers[exchange.side].model)
        self._clients[exchange.side].send(exchange, body, finished)

    def _conversed(self, ended: float) -> None:
        self._active -= 1
        self._conversation_over(ended)
        self._end_when_idle()

    def _end_when_idle(self) -> None:
        if self._stopped and self._active == 0:
            self._end()

    def _end(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _abandon(self) -> None:
        now = self._monotonic()
        for client in self._clients:
            for exchange in client.in_flight:
                exchange.error, exchange.ended = "unfinished", now

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY)
            for client in self._clients:
                client.expire(self.job.timeout)
