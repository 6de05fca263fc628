"""Filter a text that arrives in pieces, so that nothing of a match gets through."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from maxgate.guardrails.detector import CONTEXT, Detector, Match, Screen

MAX_MATCHES: Final = 1000


class Piece(NamedTuple):
    """A part of the text and what it has become."""

    raw: str
    text: str


def join_texts(pieces: Iterable[Piece]) -> str:
    """Return what the pieces have become."""
    return "".join([piece.text for piece in pieces])


Replace = Callable[[str, str], str | None]


@dataclass(frozen=True, slots=True)
class Search:
    """Detectors and what happens to their matches.

    `replace` returns the text in place of a match, or None if the text must end before it; it gets
    the label of the detector and the match.
    """

    detectors: Sequence[Detector]
    replace: Replace


class TextFilter:
    """Replaces matches in a text, or ends it before one.

    Text is held back while it may become a match. The result is the same however the text is
    split. Of overlapping matches, the one that starts first counts, then the longest, then the one
    of the first search. `is_blocked` is set once the text has ended early: at a match, after
    `max_characters`, or after MAX_MATCHES matches.
    """

    def __init__(
        self,
        searches: Sequence[Search],
        screen: Screen,
        *,
        max_characters: int | None = None,
        is_expired: Callable[[], bool] = lambda: False,
    ) -> None:
        """`screen` is for the detectors of all searches; the text ends once `is_expired`."""
        self._is_expired = is_expired
        self._screen = screen
        self._found = [
            _Found(detector, search.replace) for search in searches for detector in search.detectors
        ]
        self._text = ""
        self._at = 0
        self._base = 0  # position of `_text` in the whole text, as `_found` counts
        self._room = max_characters
        self._matches = 0
        self.is_blocked = False
        self.is_too_long = False

    def feed(self, text: str, *, is_end: bool = False) -> list[Piece]:
        """Return the pieces that more text cannot change; with `is_end`, all."""
        if self.is_blocked:
            return []
        if self._room is not None:
            self.is_too_long = len(text) > self._room
            text = text[: self._room]
            self._room -= len(text)
        is_end = is_end or self.is_too_long
        removed = max(self._at - CONTEXT, 0)
        self._text = self._text[removed:] + text
        self._at -= removed
        self._base += removed
        pieces: list[Piece] = []
        while self._at < len(self._text) and not self.is_blocked:
            if not self._advance(pieces, is_end=is_end):
                break
            self.is_blocked |= self._is_expired()
        self.is_blocked |= self.is_too_long
        return pieces

    def _advance(self, pieces: list[Piece], *, is_end: bool) -> bool:
        """Decide about the next part of the text; return whether there may be more to decide."""
        first = max(self._at - CONTEXT, 0)
        undecided = self._screen.find_undecided(
            self._text[first:] if first else self._text, self._at - first, is_end=is_end
        )
        is_screened = undecided is not None
        found = None
        if undecided is None:
            found, undecided = self._find_next(is_end=is_end)
        else:
            undecided += first
        stop = undecided if found is None else found.start - self._base
        before = self._text[self._at : stop]
        if before:
            pieces.append(Piece(before, before))
        if found is None:
            is_progress = not is_screened and stop > self._at
            self._at = stop
            return is_progress
        raw = self._text[found.start - self._base : found.end - self._base]
        self._at = found.end - self._base
        self._matches += 1
        replacement = None
        if self._matches <= MAX_MATCHES:
            replacement = found.replace(found.detector.label, raw)
        if replacement is None:
            self.is_blocked = True
        else:
            pieces.append(Piece(raw, replacement))
        return True

    def _find_next(self, *, is_end: bool) -> tuple["_Found | None", int]:
        best, undecided = None, len(self._text)
        for index, before in enumerate(self._found):
            found = self._found[index] = self._scan(before, is_end=is_end)
            undecided = min(undecided, found.undecided - self._base)
            if found.match is not None and (best is None or found.rank < best.rank):
                best = found
        if best is not None and best.start - self._base >= undecided:
            best = None
        return best, undecided

    def _scan(self, found: "_Found", *, is_end: bool) -> "_Found":
        """Scan on from what is known, as far as the detector may hold back.

        Splits do not matter, because the detector never sees more from a position on.
        """
        base = self._base
        if found.match is not None and found.start >= base + self._at:
            return found
        start = self._at
        if found.match is None:
            start = max(start, found.undecided - base)
        first, last = max(start - CONTEXT, 0), start + found.detector.max_length
        is_whole = last >= len(self._text)
        match, undecided = found.detector.scan(
            self._text[first:last], start - first, is_end=is_end and is_whole
        )
        if match is None and undecided + first == start and last <= len(self._text):
            # Held back for too long.
            return found._replace(match=Match(base + start, base + last), undecided=base + last)
        first += base
        if match is not None:
            match = Match(match.start + first, match.end + first)
        return found._replace(match=match, undecided=undecided + first)


class _Found(NamedTuple):
    """The next match of a detector that is known, and the first position not decided.

    Positions are in the whole text.
    """

    detector: Detector
    replace: Replace
    match: Match | None = None
    undecided: int = 0

    @property
    def start(self) -> int:
        return -1 if self.match is None else self.match.start

    @property
    def end(self) -> int:
        return -1 if self.match is None else self.match.end

    @property
    def rank(self) -> tuple[int, int]:
        return (0, 0) if self.match is None else (self.match.start, -self.match.end)
