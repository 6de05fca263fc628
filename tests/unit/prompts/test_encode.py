"""Text that is much too long is found out from its beginning."""

import pytest

from maxgate.errors import InvalidRequest
from maxgate.generation.errors import ContextLengthExceeded
from maxgate.prompts.encode import check_length

LIMIT = 10_000


class Counter:
    """Takes each a for a token, and anything else for none."""

    def __init__(self) -> None:
        self.looked_at = 0

    def __call__(self, text: str) -> int:
        self.looked_at += len(text)
        return text.count("a")


@pytest.mark.parametrize(
    ("texts", "looked_at"),
    [
        ([], 0),
        (["a" * 40_000], 0),
        (["a" * 20_000] * 2, 0),
        ([" " * 40_001], 40_001),
        ([" " * 320_000] * 2, 640_000),
        (["a" * 20_000, " " * 100_000], 120_000),
    ],
)
def test_what_may_fit_passes(texts: list[str], looked_at: int) -> None:
    count = Counter()
    check_length(texts, count, limit=LIMIT, param="messages")
    assert count.looked_at == looked_at


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        (["a" * 40_001], 32_000),
        (["a" * 10_000] * 5, 30_000),
        (["a" * 10_000_000], 32_000),
        ([" " * 100_000, "a" * 40_000], 32_000),
    ],
)
def test_it_stops_at_twice_the_limit(texts: list[str], tokens: int) -> None:
    with pytest.raises(ContextLengthExceeded, match=f"at least {tokens} tokens") as caught:
        check_length(texts, Counter(), limit=LIMIT, param="prompt")
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


@pytest.mark.parametrize("texts", [[" " * 10_000_000], [" " * 400_000, " " * 400_000]])
def test_what_has_few_tokens_for_its_length_is_looked_at_up_to_a_length(texts: list[str]) -> None:
    count = Counter()
    with pytest.raises(InvalidRequest, match="at most 640000") as caught:
        check_length(texts, count, limit=LIMIT, param="messages")
    assert (caught.value.param, caught.value.code) == ("messages", "string_above_max_length")
    assert count.looked_at == 640_000
