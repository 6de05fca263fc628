"""The added time of guardrails, within bounds that a busy machine keeps."""

import asyncio

from benchmarks.guardrails import RULE_SETS, measure


def test_added_time() -> None:
    """All kinds together add little to the first token and to each chunk, and hold back a word."""
    added = asyncio.run(measure(RULE_SETS["all of these"], rounds=5))
    assert added.first_token["1,000 characters"] < 10_000
    assert added.chunk < 300
    assert 3 < added.held_back < 5


def test_hold_back() -> None:
    """Words that are not on a list are sent at once."""
    added = asyncio.run(measure(RULE_SETS["100 words"], rounds=1))
    assert added.held_back < 0.1
