from pydantic import BaseModel, ConfigDict, Field


class EngineSettings(BaseModel):
    """How MAX is started here; times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    card: str | None = None
    """The one model to start, by its card's name; without it, the cards given, one at each URL."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """MAX's own Prometheus metrics; 0 for the engine's port plus one."""
    start_timeout: float = Field(default=1800, gt=0)
    """The first start compiles the model, which takes minutes."""
    stop_timeout: float = Field(default=10, gt=0)
    """What MAX gets to finish its requests before it is killed."""
    telemetry: bool = False
    """Whether MAX may send its usage to Modular; its local metrics work either way."""
