"""A trend in one line of text."""

from collections.abc import Sequence
from typing import Final

_BLOCKS: Final = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int) -> str:
    """One block per value, higher for more, from zero to the largest; a gap where there is none.

    The last `width` values, with blanks before them if there are fewer.
    """
    shown = values[-width:] if width > 0 else []
    top = max((value for value in shown if value is not None), default=0.0)
    return "".join(_block(value, top) for value in shown).rjust(max(width, 0))


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
