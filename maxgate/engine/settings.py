from pathlib import Path
from typing import Literal

from pydantic import Field

from maxgate.settings_section import Section


class EngineSettings(Section):
    """Settings for starting MAX; times in seconds."""

    mode: Literal["local", "docker", "none"] = "none"
    """Start MAX as a local process, as a Docker container, or not at all."""
    python: Path | None = None
    """Python of another environment that has MAX, for `local`; by default the gateway's own."""
    card: str | None = None
    """Name of the one model card to start; by default all of `cards`, one at each engine URL."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of MAX's own Prometheus metrics; 0 is the engine's port plus one."""
    start_timeout: float = Field(default=1800, gt=0)
    """Timeout for a start; the first one compiles the model, which takes minutes."""
    stop_timeout: float = Field(default=10, gt=0)
    """Seconds that MAX has to finish its requests before it is killed."""
    telemetry: bool = False
    """Allow MAX to send usage data to Modular; its local metrics work either way."""
