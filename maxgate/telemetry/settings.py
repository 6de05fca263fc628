from pathlib import Path
from typing import Literal

from pydantic import Field

from maxgate.settings_section import Section


class TracingSettings(Section):
    """Settings of [traces](tracing.md). The standard OTEL_ variables set their export."""

    enabled: bool = False
    """Trace requests by OpenTelemetry; needs the extra `otel`."""
    capture_content: bool = False
    """Export the texts of prompts and responses too."""
    flush_timeout: float = Field(default=2.0, gt=0, le=60)
    """Seconds that the export of the last spans may take when the gateway stops."""


class TelemetrySettings(Section):
    """Settings of logs and metrics."""

    log_format: Literal["json", "text"] | None = None
    """Format of log lines; by default text on a terminal and JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of log lines; `warning` omits the line of each request."""
    metrics_dir: Path | None = None
    """Folder of the workers' counters; by default a temporary one if there are several workers."""
