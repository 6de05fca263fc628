"""The outcomes of the last seconds, counted in two halves."""


class OutcomeWindow:
    """Outcomes of the current and the previous half of a window of `seconds`."""

    __slots__ = ("_current", "_half", "_previous", "_since")

    def __init__(self, seconds: float) -> None:
        self._half = seconds / 2
        self._since = 0.0
        self._current = [0, 0]
        self._previous = [0, 0]

    def add(self, now: float, total: int, failed: int = 0) -> None:
        """Add `total` outcomes, `failed` of which are failures."""
        if now - self._since >= self._half:
            self._rotate(now)
        self._current[0] += total
        self._current[1] += failed

    def count(self, now: float) -> tuple[int, int]:
        """Return the number of outcomes and of failures."""
        if now - self._since >= self._half:
            self._rotate(now)
        return self._current[0] + self._previous[0], self._current[1] + self._previous[1]

    def _rotate(self, now: float) -> None:
        is_recent = now - self._since < 2 * self._half
        self._previous = self._current if is_recent else [0, 0]
        self._current, self._since = [0, 0], now
