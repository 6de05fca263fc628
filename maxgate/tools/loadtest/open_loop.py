"""So many a second."""

from collections.abc import Sequence

from maxgate.tools.loadtest.client.alarm import alarm
from maxgate.tools.loadtest.runner import Runner
from maxgate.tools.loadtest.schedule import order_of_sides


class OpenLoop(Runner):
    """Departures at set times, whatever the server does."""

    def plan(self, offsets: Sequence[float]) -> None:
        """The departures of all processes, in seconds from the start, rising."""
        self._offsets = offsets
        self._position = self.job.shard
        self._alarm = alarm(self._loop, self._depart, self._monotonic)

    def _begin(self) -> None:
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
