from pydantic import BaseModel, ConfigDict, Field


class UpstreamSettings(BaseModel):
    """How engines are talked to; times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connect_timeout: float = Field(default=5, gt=0)
    """An engine on the same network that takes longer to accept is not there."""
    first_token_timeout: float = Field(default=300, gt=0)
    """Silence before a stream's first token; it covers the time a request queues in MAX."""
    idle_timeout: float = Field(default=60, gt=0)
    """Silence between two tokens of a stream."""
    response_timeout: float = Field(default=600, gt=0)
    """The whole of an answer that is not streamed; the OpenAI SDK gives up at the same time."""
    cancel_grace: float = Field(default=1, ge=0)
    """Seconds that a request stays at MAX at least when its client leaves before it answers."""
    keepalive_expiry: float = Field(default=60, gt=0, lt=120)
    """Idle connections are closed before MAX does it, after 120 s."""
    max_connections: int = Field(default=4096, ge=1)
    """Per engine, in one worker process."""
    probe_interval: float = Field(default=5, gt=0)
    """Between two looks at an engine that is well."""
    probe_interval_down: float = Field(default=1, gt=0)
    """Between two looks at an engine that is not."""
    probe_timeout: float = Field(default=3, gt=0)
    """An engine that takes longer to list its models is not well."""
    capability_probe_timeout: float = Field(default=15, gt=0)
    """For each question by which an engine that has come up is asked what it can do."""
    embedding_batch: int = Field(default=32, ge=1, le=2048)
    """Inputs of an embeddings request that go to an engine in one call."""
    embedding_concurrency: int = Field(default=2, ge=1, le=64)
    """Calls of one embeddings request that run at once."""
