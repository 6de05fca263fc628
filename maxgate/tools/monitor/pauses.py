"""How long to leave a server alone that did not answer."""

from typing import Final

_FIRST: Final = 1.0
_LONGEST: Final = 10.0


class Pauses:
    """One second after the first failure, twice as long after each further one, up to ten."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._until = float("-inf")

    def over(self, now: float) -> bool:
        """Whether it may be asked again."""
        return now >= self._until

    def failed(self, now: float) -> None:
        """It did not answer."""
        self._pause = min(self._pause * 2, _LONGEST) if self._pause else _FIRST
        self._until = now + self._pause

    def succeeded(self) -> None:
        """It answered."""
        self._pause, self._until = 0.0, float("-inf")
