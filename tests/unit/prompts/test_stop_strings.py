"""Stop strings are cut completely, wherever the chunk boundaries are."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from maxgate.prompts.stop_strings import StopTrimmer

letters = st.text(alphabet="ab.", max_size=12)
stops = st.lists(st.text(alphabet="ab.", min_size=1, max_size=4), min_size=1, max_size=4)


def run(pieces: Sequence[str], stop: Sequence[str]) -> tuple[str, bool]:
    trimmer = StopTrimmer(stop)
    shown = "".join(map(trimmer.feed, pieces))
    if not trimmer.stopped:
        shown += trimmer.flush()
    return shown, trimmer.stopped


def test_stop() -> None:
    """Text up to the stop string is shown."""
    assert run(["one two ", "three"], ["tw"]) == ("one ", True)


def test_stop_over_several_chunks() -> None:
    """A stop string spread over chunks is found."""
    assert run(["Hello wo", "r", "ld!"], ["world"]) == ("Hello ", True)


def test_incomplete_stop() -> None:
    """The start of a stop string that is never completed is shown at the end."""
    assert run(["a\n", "\n", "b"], ["\n\n\n"]) == ("a\n\nb", False)


def test_first_completed_stop() -> None:
    """The stop string that is completed first counts."""
    assert run(["abcab"], ["abcab", "bc"]) == ("a", True)


def test_release() -> None:
    """Text is held back only while it may become a stop string."""
    trimmer = StopTrimmer(["###"])
    assert [trimmer.feed(piece) for piece in ("a#", "#b", "c")] == ["a", "##b", "c"]


def test_text_after_stop() -> None:
    """Text after the stop string is dropped."""
    trimmer = StopTrimmer(["."])
    assert [trimmer.feed(piece) for piece in ("a.b", "c")] == ["a", ""]


@given(st.lists(letters, max_size=8), stops)
def test_any_split(pieces: list[str], stop: list[str]) -> None:
    """Chunk boundaries do not change the text shown."""
    text = "".join(pieces)
    ends = [text.find(s) + len(s) for s in stop if s in text]
    if not ends:
        assert run(pieces, stop) == (text, False)
        return
    end = min(ends)
    start = min(text.find(s) for s in stop if s in text[:end])
    assert run(pieces, stop) == (text[:start], True)


@given(st.lists(letters, max_size=8), stops)
def test_no_stop_string_in_output(pieces: list[str], stop: list[str]) -> None:
    """The text shown contains no stop string."""
    shown, _ = run(pieces, stop)
    assert not any(s in shown for s in stop)
