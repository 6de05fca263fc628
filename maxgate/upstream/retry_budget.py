"""The retry budget of a model: how many engine calls may be retries.

Without it, an outage multiplies the load: each client request becomes several engine calls just
when engines can serve the fewest. Share and minimum follow Envoy, the window follows Finagle.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from maxgate.upstream.settings import RetrySettings

WINDOW: Final = 10
"""Seconds over which requests and retries are counted."""
_SECOND, _REQUESTS, _RETRIES = range(3)
_BUCKETS: Final = WINDOW + 1
WORDS: Final = 3 * _BUCKETS
"""64-bit words of the counts of one worker: the second, requests and retries of each bucket."""
OpenCounts: TypeAlias = Callable[[str], tuple[memoryview, Callable[[], list[memoryview]]]]
"""Returns `own` and `read_all` of RetryBudget for the model with this name."""


class RetryBudget:
    """Allows retries up to a share of the requests of the last seconds, and at least a few.

    Callers increment `requests` and, for requests that clients announce as retries,
    `client_retries`; `tick` is called about once a second. `own` are this worker's counts, written
    by it alone, and `read_all` returns the counts of all workers, its own included. Times are
    seconds of a clock that the workers share.
    """

    def __init__(
        self,
        settings: RetrySettings,
        own: memoryview | None = None,
        read_all: Callable[[], list[memoryview]] | None = None,
    ) -> None:
        self._settings = settings
        self._own = memoryview(bytearray(8 * WORDS)).cast("q") if own is None else own
        self._read_all = read_all or (lambda: [self._own])
        self.requests = 0
        self.client_retries = 0

    def take(self, now: float, *, last_resort: bool = False) -> bool:
        """Take one retry; False if the budget is used up.

        A `last_resort` goes to a replica that is probably broken, too. Such retries get half of the
        budget: an outage would use up all of it, and most of them would fail.
        """
        self.tick(now)
        requests, retries = self._count(int(now))
        settings = self._settings
        limit = max(settings.budget_share * requests, settings.budget_minimum * WINDOW)
        if retries >= (limit / 2 if last_resort else limit):
            return False
        self._own[self._find_bucket(int(now)) + _RETRIES] += 1
        return True

    def tick(self, now: float) -> None:
        """Count what has arrived since the last call as arriving now."""
        if self.requests or self.client_retries:
            bucket = self._find_bucket(int(now))
            self._own[bucket + _REQUESTS] += self.requests
            self._own[bucket + _RETRIES] += self.client_retries
            self.requests = self.client_retries = 0

    def _find_bucket(self, second: int) -> int:
        own, bucket = self._own, 3 * (second % _BUCKETS)
        if own[bucket + _SECOND] != second:
            own[bucket + _REQUESTS] = own[bucket + _RETRIES] = 0
            own[bucket + _SECOND] = second
        return bucket

    def _count(self, second: int) -> tuple[int, int]:
        requests = retries = 0
        for counts in self._read_all():
            for bucket in range(0, WORDS, 3):
                if second - WINDOW < counts[bucket + _SECOND] <= second:
                    requests += counts[bucket + _REQUESTS]
                    retries += counts[bucket + _RETRIES]
        return requests, retries
