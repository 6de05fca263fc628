from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from maxgate.settings_section import Section, split_list


class TelemetrySettings(Section):
    """Settings of logs and metrics."""

    log_format: Literal["json", "text"] | None = None
    """Format of log lines; by default text on a terminal and JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of log lines; `warning` omits the line of each request."""
    host: bool = False
    """Export CPU, memory and disk of the host at `/metrics`; needs the extra `host`."""
    gpu: bool = False
    """Export the NVIDIA GPUs of the host at `/metrics`; needs the extra `host`."""
    certificates: Annotated[list[Path], NoDecode, BeforeValidator(split_list)] = Field(default=[])
    """Certificates (PEM) whose expiry is exported at `/metrics`; needs the extra `tls`."""
    metrics_dir: Path | None = None
    """Folder of the workers' counters; by default a temporary one if there are several workers."""
