"""Stop strings never show, not even in part, however the text is cut into chunks."""

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


def test_text_up_to_the_stop_string_is_shown() -> None:
    assert run(["one two ", "three"], ["tw"]) == ("one ", True)


def test_a_stop_string_spread_over_chunks_is_found() -> None:
    assert run(["Hello wo", "r", "ld!"], ["world"]) == ("Hello ", True)


def test_what_only_looked_like_a_beginning_is_shown_in_the_end() -> None:
    assert run(["a\n", "\n", "b"], ["\n\n\n"]) == ("a\n\nb", False)


def test_of_several_stop_strings_the_one_that_is_complete_first_counts() -> None:
    assert run(["abcab"], ["abcab", "bc"]) == ("a", True)


def test_text_is_not_held_back_longer_than_it_must() -> None:
    trimmer = StopTrimmer(["###"])
    assert [trimmer.feed(piece) for piece in ("a#", "#b", "c")] == ["a", "##b", "c"]


def test_nothing_is_shown_after_the_stop_string() -> None:
    trimmer = StopTrimmer(["."])
    assert [trimmer.feed(piece) for piece in ("a.b", "c")] == ["a", ""]


@given(st.lists(letters, max_size=8), stops)
def test_any_split_shows_what_the_whole_text_would(pieces: list[str], stop: list[str]) -> None:
    text = "".join(pieces)
    ends = [text.find(s) + len(s) for s in stop if s in text]
    if not ends:
        assert run(pieces, stop) == (text, False)
        return
    end = min(ends)
    start = min(text.find(s) for s in stop if s in text[:end])
    assert run(pieces, stop) == (text[:start], True)


@given(st.lists(letters, max_size=8), stops)
def test_no_stop_string_is_ever_shown(pieces: list[str], stop: list[str]) -> None:
    shown, _ = run(pieces, stop)
    assert not any(s in shown for s in stop)
