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


@dataclass(frozen=True, slots=True)
class Search:
    """Detectors and what happens to their matches.

    `replace` returns the text in place of a match, or None if the text must end before it; it gets
    the label of the detector and the match.
    """

    detectors: Sequence[Detector]
    replace: Callable[[str, str], str | None]


class TextFilter:
    """Replaces matches in a text, or ends it before one.

    Text is held back while it may become a match. The result is the same however the text is
    split. Of overlapping matches, the one that starts first counts, then the longest, then the one
    of the first search. `is_blocked` is set once the text has ended early: at a match, after
    `max_characters`, or after MAX_MATCHES matches.
    """

    def __init__(
        self, searches: Sequence[Search], screen: Screen, *, max_characters: int | None = None
    ) -> None:
        """`screen` is for the detectors of all searches."""
        self._screen = screen
        self._detectors = [
            (detector, search.replace) for search in searches for detector in search.detectors
        ]
        self._text = ""
        self._at = 0
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
        self._text = self._text[max(self._at - CONTEXT, 0) :] + text
        self._at = min(self._at, CONTEXT)
        pieces: list[Piece] = []
        while self._at < len(self._text) and not self.is_blocked:
            if not self._advance(pieces, is_end=is_end):
                break
        self.is_blocked |= self.is_too_long
        return pieces

    def _advance(self, pieces: list[Piece], *, is_end: bool) -> bool:
        """Decide about the next part of the text; return whether there may be more to decide."""
        screened = self._screen.find_undecided(self._text, self._at, is_end=is_end)
        if screened is None:
            found, undecided = self._find_next(is_end=is_end)
        else:
            found, undecided = None, screened
        stop = undecided if found is None else found[0].start
        before = self._text[self._at : stop]
        if before:
            pieces.append(Piece(before, before))
        if found is None:
            is_progress = screened is None and stop > self._at
            self._at = stop
            return is_progress
        match, detector, replace = found
        raw = self._text[match.start : match.end]
        self._at = match.end
        self._matches += 1
        replacement = replace(detector.label, raw) if self._matches <= MAX_MATCHES else None
        if replacement is None:
            self.is_blocked = True
        else:
            pieces.append(Piece(raw, replacement))
        return True

    def _find_next(
        self, *, is_end: bool
    ) -> tuple[tuple[Match, Detector, Callable[[str, str], str | None]] | None, int]:
        best, undecided = None, len(self._text)
        for detector, replace in self._detectors:
            match, hold = self._scan(detector, is_end=is_end)
            undecided = min(undecided, hold)
            if match is not None and (
                best is None or (match.start, -match.end) < (best[0].start, -best[0].end)
            ):
                best = match, detector, replace
        if best is not None and best[0].start >= undecided:
            best = None
        return best, undecided

    def _scan(self, detector: Detector, *, is_end: bool) -> tuple[Match | None, int]:
        """Scan as much as the detector may hold back, so that splits do not matter."""
        last = self._at + detector.max_length
        is_whole = last >= len(self._text)
        view = self._text if is_whole else self._text[:last]
        match, hold = detector.scan(view, self._at, is_end=is_end and is_whole)
        if match is None and hold == self._at and len(view) == last:
            return Match(hold, last), last  # held back for too long
        return match, hold
