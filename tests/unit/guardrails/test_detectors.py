"""Findings of the detectors in more than 800 texts, and their time on hostile texts."""

from base64 import b64encode
from collections import Counter

import pytest

from maxgate.guardrails.detector import Detector, Screen
from maxgate.guardrails.errors import ContentBlocked
from maxgate.guardrails.text_filter import Search, TextFilter
from tests.fakes.backend import FakeBackend
from tests.fakes.cpu_time import limit_cpu_time
from tests.fakes.guardrail_cases import (
    RULES,
    build_detectors,
    find_all,
    measure_quality,
    read_cases,
)
from tests.fakes.guardrails import run_guarded
from tests.fakes.requests import generation_request


def test_cases() -> None:
    """There are at least 300 texts with something to find, and 300 without."""
    numbers = Counter(case.label is not None for case in read_cases())
    assert min(numbers[True], numbers[False]) >= 300


def test_quality() -> None:
    """All passages are found, exactly; the only error is a constant that has a card's checksum."""
    quality = measure_quality(build_detectors())
    assert {label: one.recall for label, one in quality.items()} == dict.fromkeys(quality, 1.0)
    assert {label: one.precision for label, one in quality.items() if one.precision < 1} == {
        "CARD": pytest.approx(51 / 54)
    }


NEAR = "call 650-253-0000, card 4111-1111-1111-1111, ada@example.org"


def test_neighbours() -> None:
    """Passages next to each other are all found."""
    assert [label for label, _ in find_all(build_detectors(), NEAR)] == ["PHONE", "CARD", "EMAIL"]


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*b", "(.*)*x", "(a?){30}a{30}", r"(\w+\s?)*!", "(x+x+)+y"]
)
async def test_hostile_patterns(pattern: str) -> None:
    """Patterns that take exponential time elsewhere take linear time here."""
    detector = Detector("X", pattern)
    text_filter = TextFilter([Search([detector], lambda *_: "")], Screen([detector]))
    with limit_cpu_time(5):
        text_filter.feed("a" * 50_000 + " x" * 5_000, is_end=True)


HOSTILE = {
    "addresses": "a@" * 25_000,
    "dots": "a." * 25_000,
    "headers of keys": "-----BEGIN PRIVATE KEY-----" * 2_000,
    "tokens": "eyJaaaaaaaaa." * 4_000,
    "nested token": b64encode(b'{"a":' * 1_179).decode() + ".eyJaaaaaaaaa.aaaaaaaaaaaaaaaa",
    "ids": "AB12" * 12_000,
    "digits": "123 4567 89 " * 5_000,
    "numbers": "987-654-3210 " * 4_000,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_texts(name: str) -> None:
    """A long text full of near misses is checked, or refused, within seconds."""
    with limit_cpu_time(8):
        try:
            await run_guarded(FakeBackend([]), generation_request(HOSTILE[name]), *RULES[:2])
        except ContentBlocked as error:
            assert error.code == "content_filter"  # noqa: PT017  # either result is right
