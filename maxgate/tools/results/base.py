"""What every part of a report has in common."""

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A part of a report.

    Times are seconds and `_at` a date in UTC. What could not be measured is null, never 0. Fields
    that this version does not know are passed over, so that newer minor versions can be read.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)
