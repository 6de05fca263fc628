"""Open loop: requests leave on schedule, however slowly the server responds."""

from collections.abc import Sequence
from itertools import accumulate

from typing_extensions import override

from maxgate.loadtest.arrivals import choose_side_order
from maxgate.loadtest.client.timing import create_alarm
from maxgate.loadtest.load_generator import LoadGenerator


class OpenLoop(LoadGenerator):
    """Starts conversations at the times given to `schedule`."""

    def schedule(self, offsets: Sequence[float]) -> None:
        """Set the departures of all requests, in seconds from the start, ascending.

        With two servers, neighbouring departures are the two halves of a pair. A conversation of
        several turns takes as many departures and starts at the first, so that the offsets set the
        rate of requests, not of conversations.
        """
        sides = len(self.job.targets)
        self._max_turns = self._source.count_turns(len(offsets) // sides)
        first = [0, *accumulate(self._max_turns)]
        self._offsets = [
            offsets[first[index] * sides + half]
            for index in range(len(self._max_turns))
            for half in range(sides)
        ]
        self._position = self.job.shard
        self._alarm = create_alarm(self._loop, self._depart, self._monotonic)

    @override
    def _begin(self) -> None:
        self._set_alarm()

    @override
    def stop(self, grace: float | None = None) -> None:
        self._alarm.close()
        super().stop(grace)

    @override
    def abort(self) -> None:
        self._alarm.close()
        super().abort()

    def _set_alarm(self) -> None:
        if self._position < len(self._offsets):
            self._alarm.set(self.job.start + self._offsets[self._position])
        else:
            self.stop()

    def _depart(self) -> None:
        now, job = self._monotonic(), self.job
        while self._position < len(self._offsets):
            due = job.start + self._offsets[self._position]
            if due > now:
                break
            index, half = divmod(self._position, len(self._clients))
            sides = choose_side_order(index, len(self._clients), seed=job.requests.seed)
            conversation = self._create_conversation(index, [sides[half]])
            self._start_conversation(conversation, due)
            self._position += job.shards
        self._set_alarm()
