"""The cache of encoded turns is bounded and keeps recently used turns."""

from maxgate.generation.request import Message, TokenIds
from maxgate.prompts.chat_format import TurnCache
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.tokenizer import PromptTokenizer

IDS = TokenIds.of([1, 2, 3])


def turn(number: int) -> Message:
    return Message("user", (str(number),))


def list_cached(cache: TurnCache, count: int) -> list[int]:
    return [number for number in range(count) if turn(number) in cache]


def test_eviction() -> None:
    """The least recently used turn is evicted first."""
    cache = TurnCache(max_bytes=1600)  # room for three turns
    for number in range(3):
        cache.put(turn(number), IDS)
    assert cache.get(turn(0)) == IDS
    cache.put(turn(3), IDS)
    assert list_cached(cache, 4) == [0, 2, 3]
    assert cache.get(turn(1)) is None


def test_repeated_turn() -> None:
    """A turn added repeatedly takes its size once."""
    cache = TurnCache(max_bytes=1600)
    for _ in range(9):
        cache.put(turn(0), IDS)
    for number in (1, 2):
        cache.put(turn(number), IDS)
    assert list_cached(cache, 3) == [0, 1, 2]


def test_oversized_turn() -> None:
    """A turn larger than the cache evicts nothing."""
    cache = TurnCache(max_bytes=1600)
    cache.put(turn(0), IDS)
    cache.put(turn(1), TokenIds.of(list(range(1000))))
    assert list_cached(cache, 2) == [0]


def test_cached_turns_need_no_encoding(small_tokenizer: PromptTokenizer) -> None:
    """Characters of a turn count as work until it has been encoded."""
    chatml = ChatMLFormat(small_tokenizer)
    messages = [Message("user", ("A question that nobody asked before.",))]
    before = chatml.characters_to_encode(messages)
    chatml.encode(messages)
    assert (before, chatml.characters_to_encode(messages)) == (36, 0)
