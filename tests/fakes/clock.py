"""Time that moves when it is told."""


class FakeClock:
    """Starts at 1,000 s after an arbitrary point and at a fixed date."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:
        """See Clock."""
        return self._now

    def wall(self) -> float:
        """See Clock."""
        return 1_800_000_000.0 + self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
