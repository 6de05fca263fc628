"""Text filters give the same result however a text is split, and send nothing of a match."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxgate.auth.api_key import generate_key, is_well_formed
from maxgate.guardrails.detector import MAX_MATCH, Detector, Screen, build_word_detector
from maxgate.guardrails.pii import build_pii_detectors
from maxgate.guardrails.secrets import build_secret_detectors
from maxgate.guardrails.settings import PiiRule
from maxgate.guardrails.text_filter import MAX_MATCHES, Search, TextFilter, join_texts

PII = PiiRule(name="pii", kind="pii", action="mask", countries=["US", "DE", "NL"])
DETECTORS = [
    *build_pii_detectors(PII),
    *build_secret_detectors(is_well_formed),
    build_word_detector(["red fox", "red", "Straße"], "WORDS", case_sensitive=False),
    Detector("REGEX", r"\bx+y(?:z|zz)?\b"),
]
SCREEN = Screen(DETECTORS)
FRAGMENTS = [
    "ada@example.org",
    "a@b",
    "+49 30 901820",
    "(650) 253-0000",
    "call 6502530000",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "123-45-6789",
    "bsn 111222333",
    generate_key(bytes(32)),
    "AKIAQWERTYUIOPASDFGH",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLXNpZw",
    "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----",
    "Red  Fox",
    "redder",
    "STRAßE",
    "xxyz",
    "xxyzz",
    "12:30",
    "<EMAIL_1>",
    "é",
    " ",
    "\n",
    ", ",
    "1",
    "-",
    "a",
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)


def run(
    parts: Sequence[str], *, blocked: frozenset[str] = frozenset(), limit: int | None = None
) -> tuple[str, bool]:
    """Filter the parts of a text, which labels in `blocked` end; return it and whether it ended."""

    def replace(label: str, match: str) -> str | None:
        return None if label in blocked else f"[{label} {len(match)}]"

    text_filter = TextFilter([Search(DETECTORS, replace)], SCREEN, max_characters=limit)
    texts = [join_texts(text_filter.feed(part)) for part in parts]
    texts.append(join_texts(text_filter.feed("", is_end=True)))
    return "".join(texts), text_filter.is_blocked


@given(data=st.data(), text=TEXTS, limit=st.none() | st.integers(1, 60))
@settings(max_examples=150, deadline=None)
def test_splits(data: st.DataObject, text: str, limit: int | None) -> None:
    """Every split of a text gives the same result as the whole text."""
    places = data.draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    cuts = [0, *places, len(text)]
    parts = [text[start:end] for start, end in pairwise(cuts)]
    blocked = frozenset(data.draw(st.sets(st.sampled_from(["EMAIL", "WORDS", "CARD", "API_KEY"]))))
    filter_text = partial(run, blocked=blocked, limit=limit)
    assert filter_text(parts) == filter_text([text]) == filter_text(list(text))


def test_replacement() -> None:
    """Matches are replaced, and everything around them stays."""
    text = "Ask ada@example.org or +49 30 901820. logo@2x.png, red fox!"
    assert run([text]) == ("Ask [EMAIL 15] or [PHONE 13]. logo@2x.png, [WORDS 7]!", False)


def test_block() -> None:
    """The text ends before a match that is blocked."""
    parts = ["Ask a", "da@exam", "ple.org or b@example.org"]
    assert run(parts, blocked=frozenset({"EMAIL"})) == ("Ask ", True)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("The capital of ", "The capital of "),
        ("The capital", "The "),  # it may become an address
        ("The capital: ", "The capital: "),
        ("Number 4111 11", "Number "),
        ("Send it to <EMA", "Send it to <"),
    ],
)
def test_hold_back(text: str, sent: str) -> None:
    """Only what may still become a match is held back."""
    text_filter = TextFilter([Search(DETECTORS, lambda *_: "")], SCREEN)
    assert join_texts(text_filter.feed(text)) == sent


def test_bounded_hold_back() -> None:
    """A passage that may always go on counts as a match once it has the maximum length."""
    endless = Detector("ENDLESS", "<.*>")
    text_filter = TextFilter([Search([endless], lambda *_: "#")], Screen([endless]))
    sent = [join_texts(text_filter.feed("<" + "a" * 99)) for _ in range(21)]
    assert "".join(sent) == "##"
    assert MAX_MATCH == 1000


def test_too_many_matches() -> None:
    """A text ends before a match above the maximum number."""
    text, is_blocked = run(["red " * (MAX_MATCHES + 1)])
    assert is_blocked
    assert text == "[WORDS 3] " * MAX_MATCHES
