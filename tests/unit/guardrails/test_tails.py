"""Tails: the ends of texts from which a match may start."""

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from maxgate.guardrails.detector import compile_pattern
from maxgate.guardrails.tails import derive_tail

PATTERNS = [
    "ab",
    "a|bc",
    "a(bc)?d",
    "(?i)ab",
    "(?:ab){2,3}c",
    "a{3}b",
    "a{0}b",
    "a*?b+c",
    r"[]a]\x62[^\]c]",
    r"\babc\b",
    "^ab$",
    "(?P<name>a)(?i:B)c?",
    r"[[:alpha:]]{2}\d",
    r"\pL+1",
    "((a|b)c)*d",
    "",
]


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text("abcdAB1]^ ", max_size=12), cut=st.integers(0, 12))
def test_every_beginning(pattern: str, text: str, cut: int) -> None:
    """A text that is cut inside of a match ends with a beginning of that match."""
    found = re2.search(pattern, text)
    if found is None or not found.start() <= cut <= found.end():
        return
    tail = compile_pattern(derive_tail(pattern)).search(text[:cut])
    assert tail.start() <= found.start()


@pytest.mark.parametrize(
    ("text", "start"),
    [("x sec", 2), ("secr", 0), ("sec ret", 7), ("secret1", 7), ("secret", 0), ("se secre", 3)],
)
def test_nothing_more(text: str, start: int) -> None:
    """Text that cannot become a match is no tail."""
    assert compile_pattern(derive_tail(r"\bsecret\b")).search(text).start() == start


@pytest.mark.parametrize("pattern", ["(a", "a)", "*a", r"\Qa\E", "[a", "a\\"])
def test_invalid(pattern: str) -> None:
    """An expression that cannot be read is an error."""
    with pytest.raises(ValueError):  # noqa: PT011  # the message is for people
        derive_tail(pattern)
