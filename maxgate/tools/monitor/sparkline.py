"""A trend in one line of text."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

_BLOCKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """One block per value, higher for more, from zero to the largest; a gap where there is none.

    Fewer values than `width` have blanks before them; of more, neighbours share a block, which
    shows the largest of them, so that no peak is lost.
    """
    shown = _squeezed(values, max(width, 0))
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(_block(value, top) for value in shown).rjust(max(width, 0))


def _squeezed(values: Sequence[float | None], width: int) -> list[float | None]:
    if len(values) <= width:
        return list(values)
    edges = [index * len(values) // width for index in range(width + 1)] if width else []
    groups = (values[low:high] for low, high in pairwise(edges))
    return [max((v for v in group if v is not None), default=None) for group in groups]


def _block(value: float | None, top: float) -> str:
    if value is None:
        return " "
    if top <= 0:
        return _BLOCKS[0]
    return _BLOCKS[min(int(max(value, 0.0) / top * len(_BLOCKS)), len(_BLOCKS) - 1)]


def bar(share: float, width: int) -> str:
    """A share of 1 as a bar of this many characters."""
    full = round(min(max(share, 0.0), 1.0) * width)
    return "━" * full + "╌" * (width - full)
