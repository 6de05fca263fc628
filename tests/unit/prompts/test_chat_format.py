"""Turns that were used last are kept, in a bounded place."""

from maxgate.generation.request import Message, TokenIds
from maxgate.prompts.chat_format import TurnCache

IDS = TokenIds.of([1, 2, 3])


def turn(number: int) -> Message:
    return Message("user", (str(number),))


def kept(cache: TurnCache, count: int) -> list[int]:
    return [number for number in range(count) if turn(number) in cache]


def test_those_not_used_for_longest_are_forgotten() -> None:
    cache = TurnCache(most_bytes=1600)  # three of them
    for number in range(3):
        cache.keep(turn(number), IDS)
    assert cache.get(turn(0)) == IDS
    cache.keep(turn(3), IDS)
    assert kept(cache, 4) == [0, 2, 3]
    assert cache.get(turn(1)) is None


def test_a_turn_that_comes_twice_is_kept_and_counted_once() -> None:
    cache = TurnCache(most_bytes=1600)
    for _ in range(9):
        cache.keep(turn(0), IDS)
    for number in (1, 2):
        cache.keep(turn(number), IDS)
    assert kept(cache, 3) == [0, 1, 2]


def test_a_turn_that_is_larger_than_the_whole_place_pushes_nothing_out() -> None:
    cache = TurnCache(most_bytes=1600)
    cache.keep(turn(0), IDS)
    cache.keep(turn(1), TokenIds.of(list(range(1000))))
    assert kept(cache, 2) == [0]
