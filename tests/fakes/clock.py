"""A clock that the test advances."""


class FakeClock:
    """Starts at 1,000 s on the monotonic clock and at a fixed date."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:

        return self._now

    def wall(self) -> float:

        return 1_800_000_000.0 + self._now

    def advance(self, seconds: float) -> None:
        """Advance both clocks."""
        self._now += seconds
