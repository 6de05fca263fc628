"""Settings of the connections to engines."""

from pydantic import BaseModel, ConfigDict, Field


class UpstreamSettings(BaseModel):
    """Connections to engines, health checks and embedding calls; times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_timeout: float = Field(default=5, gt=0)
    """Timeout for opening a connection to an engine."""
    first_token_timeout: float = Field(default=300, gt=0)
    """Timeout for the first token of a stream, including the time the request queues in MAX."""
    idle_timeout: float = Field(default=60, gt=0)
    """Timeout between two tokens of a stream."""
    response_timeout: float = Field(default=600, gt=0)
    """Timeout for a response that is not streamed; the default of the OpenAI SDK is the same."""
    cancel_grace: float = Field(default=1, ge=0)
    """Keep a cancelled request's connection open this long after sending, so MAX notices it."""
    keepalive_expiry: float = Field(default=60, gt=0, lt=120)
    """Close idle connections after this time; MAX closes them after 120 s."""
    max_connections: int = Field(default=4096, ge=1)
    """Maximum number of connections per engine and worker process."""
    probe_interval: float = Field(default=5, gt=0)
    """Seconds between health checks of a healthy engine."""
    probe_interval_down: float = Field(default=1, gt=0)
    """Seconds between health checks of an unhealthy engine."""
    probe_timeout: float = Field(default=3, gt=0)
    """Timeout of each health check."""
    capability_probe_timeout: float = Field(default=15, gt=0)
    """Timeout of each capability probe sent to a newly healthy engine."""
    embedding_batch: int = Field(default=32, ge=1, le=2048)
    """Maximum number of embedding inputs per engine call."""
    embedding_concurrency: int = Field(default=2, ge=1, le=64)
    """Maximum number of concurrent engine calls per embeddings request."""
