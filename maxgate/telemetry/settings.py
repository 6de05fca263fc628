from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from maxgate.settings_section import Section, parse_mapping, split_list

LogComponent = Literal[
    "admission",
    "api",
    "auth",
    "canary",
    "cli",
    "control_plane",
    "guardrails",
    "libraries",
    "limits",
    "max",
    "net",
    "prompts",
    "requests",
    "server",
    "settings",
    "stores",
    "telemetry",
    "upstream",
    "usage",
]
"""Parts that write log lines: packages of maxgate, MAX, other libraries, and lines of requests."""
LogLevel = Literal["debug", "info", "warning", "error"]


class TracingSettings(Section):
    """Settings of [traces](tracing.md). The standard OTEL_ variables set their export."""

    enabled: bool = False
    """Trace requests by OpenTelemetry; needs the extra `otel`."""
    capture_content: bool = False
    """Export the texts of prompts and responses too."""
    flush_timeout: float = Field(default=2.0, gt=0, le=60)
    """Seconds that the export of the last spans may take when the gateway stops."""

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if self.capture_content and not self.enabled:
            raise ValueError("capture_content has no effect without enabled: true; set both")
        return self


class TelemetrySettings(Section):
    """Settings of logs and metrics."""

    log_format: Literal["json", "text"] | None = None
    """Format of log lines; by default text on a terminal and JSON elsewhere."""
    log_level: LogLevel = "info"
    """Minimum level of log lines; `warning` omits the line of each request."""
    host: bool = False
    """Export CPU, memory and disk of the host at `/metrics`; needs the extra `host`."""
    gpu: bool = False
    """Export the NVIDIA GPUs of the host at `/metrics`; needs the extra `host`."""
    certificates: Annotated[list[Path], NoDecode, BeforeValidator(split_list)] = Field(default=[])
    """Certificates (PEM) whose expiry is exported at `/metrics`; needs the extra `tls`."""
    log_levels: Annotated[
        dict[LogComponent, LogLevel], NoDecode, BeforeValidator(parse_mapping)
    ] = Field(default={})
    """Minimum levels of [components](logging.md#levels), such as `{upstream: debug}`."""
    success_lines_per_second: int | None = Field(default=None, ge=0)
    """Lines of successful requests that a worker logs; by default all, as for failures."""
    metrics_dir: Path | None = None
    """Folder of the workers' counters; by default a temporary one if there are several workers."""
