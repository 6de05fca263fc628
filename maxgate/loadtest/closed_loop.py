"""So many at a time."""

from collections import deque

from maxgate.loadtest.arrivals import order_of_sides, share_of
from maxgate.loadtest.load_generator import Conversation, Runner


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
