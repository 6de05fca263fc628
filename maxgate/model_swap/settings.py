from pydantic import Field

from maxgate.settings_section import Section


class SwapSettings(Section):
    """Settings of models that are started, stopped and swapped at run time; times in seconds."""

    age_bound: float = Field(default=10, gt=0)
    """A model keeps its room this long, and until requests for another one have waited as long
    unless it is idle: alternating requests cause at most one swap per this time."""
    max_wait: float = Field(default=300, gt=0)
    """Time that a request waits for its model to start; then it gets a 503 with `Retry-After`."""
    scale_up_time: float | None = Field(default=None, gt=0)
    """Time in which a platform such as Kubernetes starts an engine after it has stopped all of
    them; requests for models in `cards` then wait for it."""
    drain_timeout: float = Field(default=600, gt=0)
    """Time that a swap in place waits for running requests before it gives up."""
    warm_up_timeout: float = Field(default=60, gt=0)
    """Timeout of the first request to a started model, which no client sees."""
