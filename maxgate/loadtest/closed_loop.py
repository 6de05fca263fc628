"""Closed loop: a fixed number of conversations, each followed by the next one."""

from collections import deque

from typing_extensions import override

from maxgate.loadtest.arrivals import choose_side_order, split_evenly
from maxgate.loadtest.load_generator import Conversation, LoadGenerator


class ClosedLoop(LoadGenerator):
    """Keeps this shard's part of `concurrency` conversations running.

    It holds as many prepared in advance: when a wave of responses arrives at once, building the
    next requests would delay the timestamps of those behind.
    """

    def prepare(self) -> None:
        """Prepare the first wave, before the start."""
        load = self.job.load
        self._prepared: deque[Conversation] = deque()
        self._refilling = False
        self._next_index = self.job.shard
        if load.requests is not None:
            self._max_turns = self._source.count_turns(load.requests + load.warmup)
        self._slots = split_evenly(load.concurrency, self.job.shard, self.job.shards)
        while len(self._prepared) < self._slots and self._prepare_one():
            pass

    @override
    def _begin(self) -> None:
        for _ in range(self._slots):
            self._start_next(self._monotonic())
        if self._active == 0:
            self.stop()

    @override
    def _after_conversation(self, ended: float) -> None:
        self._start_next(ended)

    def _start_next(self, due: float) -> None:
        if self._stopped or not (self._prepared or self._prepare_one()):
            self._stopped = True
            return
        self._start_conversation(self._prepared.popleft(), due)
        if not self._refilling:
            self._refilling = True
            self._loop.call_soon(self._refill)

    def _refill(self) -> None:
        # One per turn of the event loop, so that data arriving in between is stamped in time.
        self._refilling = len(self._prepared) < self._slots and self._prepare_one()
        if self._refilling and not self._stopped:
            self._loop.call_soon(self._refill)

    def _prepare_one(self) -> bool:
        index, job = self._next_index, self.job
        if self._max_turns is not None and index >= len(self._max_turns):
            return False
        self._next_index += job.shards
        sides = choose_side_order(index, len(self._clients), seed=job.requests.seed)
        conversation = self._create_conversation(index, sides)
        conversation.prepare([target.model for target in job.targets])
        self._prepared.append(conversation)
        return True
