"""What stands in each panel of the dashboard."""

from collections.abc import Callable, Mapping
from typing import Final

from rich.table import Table
from rich.text import Text

from maxgate.tools.monitor.panels import engines, machine, trends, verdict
from maxgate.tools.monitor.watch import View

Panel = Callable[[View, int], Table | Text]
"""What to show in so many columns."""

PANELS: Final[Mapping[str, tuple[str, Panel]]] = {
    "latency": ("Latency", trends.latency),
    "traffic": ("Traffic", trends.traffic),
    "engines": ("Engines", engines.engines),
    "diagnosis": ("Diagnosis", verdict.diagnosis),
    "machine": ("Machine", machine.machine),
    "errors": ("Errors", verdict.errors),
}
"""By the widget's id: title and content."""
