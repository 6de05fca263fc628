"""Driving one level of load: who sends what when, without a lock or a queue on the way."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from maxgate.tools.loadtest.client.alarm import alarm
from maxgate.tools.loadtest.client.client import Client
from maxgate.tools.loadtest.client.exchange import Exchange
from maxgate.tools.loadtest.conversation import Conversation
from maxgate.tools.loadtest.job import Job, Progress
from maxgate.tools.loadtest.scenarios.requests import RequestSource
from maxgate.tools.loadtest.schedule import order_of_sides, share_of

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
        self.progress = Progress()
        self._active = 0
        self._stopped = False
        self._over = loop.create_future()

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
            self.progress.in_flight -= 1
            self.progress.chunks += exchange.chunks
            if exchange.error is None:
                self.progress.succeeded += 1
            else:
                self.progress.failed += 1
            done()

        self.exchanges.append(exchange)
        self.progress.started += 1
        self.progress.in_flight += 1
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


class ClosedLoop(Runner):
    """So many conversations at a time: the next one starts when one ends.

    As many are kept prepared: when a whole wave of answers comes at once, making the next requests
    would hold up those behind them.
    """

    def prepare(self) -> None:
        """Prepare the first wave; before the start."""
        job = self.job
        self._prepared: deque[Conversation] = deque()
        self._filling = False
        self._next_index = job.shard
        self._left = None if job.load.requests is None else job.load.requests + job.load.warmup
        self._slots = share_of(job.load.concurrency, job.shard, job.shards)
        while len(self._prepared) < self._slots and self._prepare_one():
            pass

    def _begin(self) -> None:
        for _ in range(self._slots):
            self._next(self._monotonic())
        if self._active == 0:
            self.stop()

    def _next(self, due: float) -> None:
        if self._stopped or not (self._prepared or self._prepare_one()):
            self._stopped = True
            return
        self._begin_conversation(self._prepared.popleft(), due)
        if not self._filling:
            self._filling = True
            self._loop.call_soon(self._fill)

    def _fill(self) -> None:
        # One a turn of the loop, so that what arrives meanwhile is stamped in time.
        self._filling = len(self._prepared) < self._slots and self._prepare_one()
        if self._filling and not self._stopped:
            self._loop.call_soon(self._fill)

    def _prepare_one(self) -> bool:
        index = self._next_index
        if self._left is not None and index >= self._left:
            return False
        self._next_index += self.job.shards
        sides = order_of_sides(index, len(self._clients), seed=self.job.requests.seed)
        made = self._conversation(index, sides, warmup=index < self.job.load.warmup)
        made.prepare([peer.model for peer in self.job.peers])
        self._prepared.append(made)
        return True

    def _conversation_over(self, ended: float) -> None:
        self._next(ended)


class OpenLoop(Runner):
    """Departures at set times, whatever the server does."""

    def plan(self, offsets: Sequence[float]) -> None:
        """The departures of all processes, in seconds from the start, rising."""
        self._offsets = offsets
        self._position = self.job.shard

    def _begin(self) -> None:
        self._alarm = alarm(self._loop, self._depart, self._monotonic)
        self._set_alarm()

    def stop(self, grace: float | None = None) -> None:
        """See Runner."""
        self._alarm.close()
        super().stop(grace)

    def cut(self) -> None:
        """See Runner."""
        self._alarm.close()
        super().cut()

    def _set_alarm(self) -> None:
        if self._position < len(self._offsets):
            self._alarm.set(self.job.start + self._offsets[self._position])
        else:
            self.stop()

    def _depart(self) -> None:
        now = self._monotonic()
        while self._position < len(self._offsets):
            due = self.job.start + self._offsets[self._position]
            if due > now:
                break
            index, place = divmod(self._position, len(self._clients))
            sides = order_of_sides(index, len(self._clients), seed=self.job.requests.seed)
            self._converse(index, [sides[place]], due, warmup=self._position < self.job.load.warmup)
            self._position += self.job.shards
        self._set_alarm()

    def _conversation_over(self, ended: float) -> None:
        """Nothing follows from an answer."""
