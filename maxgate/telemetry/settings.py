from pathlib import Path
from typing import Literal

from maxgate.settings_section import Section


class TelemetrySettings(Section):
    """Settings of logs and metrics."""

    log_format: Literal["json", "text"] | None = None
    """Format of log lines; by default text on a terminal and JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of log lines; `warning` omits the line of each request."""
    metrics_dir: Path | None = None
    """Folder of the workers' counters; by default a temporary one if there are several workers."""
