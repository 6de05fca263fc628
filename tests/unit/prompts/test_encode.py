"""Text that is far too long is rejected by its start, without encoding all of it."""

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.prompts.encode import check_length

LIMIT = 10_000


class Counter:
    """Counts each letter a as a token, and nothing else."""

    def __init__(self) -> None:
        self.characters = 0

    def __call__(self, text: str) -> int:
        self.characters += len(text)
        return text.count("a")


@pytest.mark.parametrize(
    ("texts", "characters"),
    [
        ([], 0),
        (["a" * 40_000], 0),
        (["a" * 20_000] * 2, 0),
        ([" " * 40_001], 40_001),
        ([" " * 320_000] * 2, 640_000),
        (["a" * 20_000, " " * 100_000], 120_000),
    ],
)
def test_accepted(texts: list[str], characters: int) -> None:
    """Short text is not counted; long text with few tokens is counted to its end."""
    count = Counter()
    check_length(texts, count, limit=LIMIT, param="messages")
    assert count.characters == characters


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        (["a" * 40_001], 32_000),
        (["a" * 10_000] * 5, 30_000),
        (["a" * 10_000_000], 32_000),
        ([" " * 100_000, "a" * 40_000], 32_000),
    ],
)
def test_too_many_tokens(texts: list[str], tokens: int) -> None:
    """Counting stops at twice the limit."""
    with pytest.raises(ContextLengthExceeded, match=f"at least {tokens} tokens") as caught:
        check_length(texts, Counter(), limit=LIMIT, param="prompt")
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


@pytest.mark.parametrize("texts", [[" " * 10_000_000], [" " * 400_000, " " * 400_000]])
def test_too_many_characters(texts: list[str]) -> None:
    """Very long text with few tokens is rejected after a fixed number of characters."""
    count = Counter()
    with pytest.raises(InvalidRequest, match="at most 640000") as caught:
        check_length(texts, count, limit=LIMIT, param="messages")
    assert (caught.value.param, caught.value.code) == ("messages", "string_above_max_length")
    assert count.characters == 640_000
