"""Numbers as evidence for a cause."""

from dataclasses import dataclass

from maxgate.tools.monitor.history import History
from maxgate.tools.monitor.numbers import Numbers
from maxgate.tools.monitor.quantities import show


@dataclass(frozen=True, slots=True)
class Evidence:
    """A number, its value, and what it usually is where that is known."""

    number: str
    value: float
    usual: float | None = None

    def __str__(self) -> str:
        usual = "" if self.usual is None else f", usually {show(self.number, self.usual)}"
        return f"{self.number} {show(self.number, self.value)}{usual}"


@dataclass(frozen=True, slots=True)
class Cause:
    """What slows requests down, what can be done, and what it is concluded from."""

    name: str
    advice: str
    evidence: tuple[Evidence, ...]


class Facts:
    """The numbers of one time, with a way to quote them."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._now: Numbers = history.numbers

    def get(self, name: str, default: float = 0.0) -> float:
        """A number; the default where it is not known."""
        return self._now.get(name, default)

    def knows(self, *names: str) -> bool:
        """Whether all of these are known."""
        return all(name in self._now for name in names)

    def growth(self, name: str) -> float:
        """How many times the usual value it has; 1 where that is not known."""
        usual = self._history.usual(name)
        return self._now[name] / usual if usual and name in self._now else 1.0

    def quote(self, *names: str, usual: bool = False) -> tuple[Evidence, ...]:
        """Those of these numbers that are known, as evidence."""
        return tuple(
            Evidence(name, self._now[name], self._history.usual(name) if usual else None)
            for name in names
            if name in self._now
        )
