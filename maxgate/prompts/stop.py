"""Cutting an answer at a stop string, also one that is spread over several chunks."""

from collections.abc import Sequence


class StopTrimmer:
    """Takes text in pieces and gives back what may be shown.

    What is given back never holds a stop string or a part of one that was cut at; until it is
    known whether a stop string is beginning, its possible beginning is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that can be shown now; sets `stopped` once a stop string is complete."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # The one that was complete first, so that chunks make no difference.
            _, start = min(found)
            self.stopped = True
            self._held = ""
            return text[:start]
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, once it is known that nothing more comes."""
        text, self._held = self._held, ""
        return text

    def _possible_beginning(self, text: str) -> int:
        # The longest end of the text that a stop string begins with.
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
