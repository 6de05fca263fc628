"""Finding out that text is much too long without encoding all of it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from maxgate.errors import ContextLengthExceeded, InvalidRequest

# Less than this is encoded as it is; more cannot be meant.
_FEW_CHARACTERS_PER_TOKEN: Final = 4
_MOST_CHARACTERS_PER_TOKEN: Final = 64
_PIECE: Final = 16_000
_MORE_THAN_ENOUGH: Final = 2


def check_length(
    texts: Iterable[str], count: Callable[[str], int], *, limit: int, param: str
) -> None:
    """Raise ContextLengthExceeded where the beginning alone has twice as many tokens as `limit`.

    `count` says how many tokens a text has. Text is counted in pieces, which have a few more tokens
    than the whole. Raises InvalidRequest for text that is long without having that many.
    """
    texts = list(texts)
    characters, longest = sum(map(len, texts)), limit * _MOST_CHARACTERS_PER_TOKEN
    if characters <= limit * _FEW_CHARACTERS_PER_TOKEN:
        return
    tokens = 0
    for piece in _pieces(texts, longest):
        tokens += count(piece)
        if tokens > limit * _MORE_THAN_ENOUGH:
            raise ContextLengthExceeded(
                limit=limit, prompt_tokens=tokens, max_tokens=None, param=param, exact=False
            )
    if characters > longest:
        raise InvalidRequest(
            f"Invalid value for '{param}': it has {characters} characters; this model takes at "
            f"most {longest}.",
            param=param,
            code="string_above_max_length",
        )


def _pieces(texts: Iterable[str], most: int) -> Iterator[str]:
    """The first `most` characters."""
    for text in texts:
        for start in range(0, min(len(text), most), _PIECE):
            yield text[start : min(start + _PIECE, most)]
        most -= min(len(text), most)
