"""The charts as one picture."""

from collections.abc import Sequence

import orjson
import vl_convert

from maxgate.tools.report.charts import page
from maxgate.tools.report.runs import Run

_SCALE = 1.5


def picture(runs: Sequence[Run]) -> bytes:
    """PNG, rendered here without a browser."""
    spec = orjson.dumps(page(runs).to_dict()).decode()
    png: bytes = vl_convert.vegalite_to_png(spec, scale=_SCALE)
    return png
