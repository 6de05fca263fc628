"""Settings of admission: slots, queue, classes and fairness."""

from typing import Annotated

from pydantic import Field

from maxgate.settings_section import Section


class AdmissionSettings(Section):
    """How many requests engines get at a time, and how the others wait."""

    enabled: bool = True
    """Limit the requests at the engines and let the others wait here."""
    slots: int | None = Field(default=None, ge=1, le=100_000)
    """Requests that each engine works on at a time, for all models; by default the card's."""
    estimate: bool = False
    """Estimate the slots of engines without metrics from the speed of their responses."""
    max_queue: int | None = Field(default=None, ge=0, le=1_000_000)
    """Waiting requests of each model; by default four times the slots in a burst."""
    max_queue_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """Bytes of the prompts of all waiting requests."""
    max_wait: float = Field(default=60.0, gt=0, le=3600)
    """Time in the queue, in seconds."""
    priority_reserve: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of the engines' batch for `service_tier: priority`, while there are such requests."""
    input_weight: float = Field(default=1.0, ge=0, le=1000)
    """Weight of prompt tokens in a tenant's share."""
    output_weight: float = Field(default=2.0, gt=0, le=1000)
    """Weight of generated tokens in a tenant's share."""
    max_tenants: int = Field(default=1000, ge=1, le=100_000)
    """Tenants that are told apart; the others share one."""
