"""What all charts have in common: size and colours."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from maxgate.tools.results.level import Level

WIDTH: Final = 500
HEIGHT: Final = 240

Series = Sequence[tuple[str, Level]]
Row = Mapping[str, Any]
Chart = Any  # altair's chains of methods have no types


def color_of(series: Series) -> alt.Color:
    """One per series, the same in every chart."""
    names = [name for name, _ in series]
    scheme = alt.Scale(domain=names, scheme="tableau10")
    legend = alt.Legend(orient="bottom", columns=2, labelLimit=260)
    return alt.Color("series:N", title=None, scale=scheme, legend=legend)
