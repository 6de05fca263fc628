"""Values of a generation request."""

from maxgate.generation.request import Sampling, TokenIds


def test_token_ids() -> None:
    """Ids are joined in the form in which they are sent."""
    pieces = [TokenIds.of([1, 22]), TokenIds.of([]), TokenIds.of([333])]
    joined = TokenIds.join(pieces)
    assert (joined, joined.to_list()) == (TokenIds(b"1,22,333", 3), [1, 22, 333])


def test_seed_offset() -> None:
    """Only a given seed is shifted."""
    assert Sampling(1, 1, seed=5).with_seed_offset(2).seed == 7
    assert Sampling(1, 1).with_seed_offset(2).seed is None
