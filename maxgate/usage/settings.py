"""Settings of the ledger of requests."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from maxgate.settings_section import Section

Days = Annotated[int, Field(ge=1, le=36_500)]


class UsageSettings(Section):
    """The ledger of requests; all other settings need `enabled`."""

    enabled: bool = False
    """Write a line per request to the spool in `state_dir/usage`, and move it to the database."""
    on_full: Literal["refuse", "uncounted"] = "refuse"
    """Without room for lines: `refuse` requests with 503, or serve them and lose their lines."""
    max_spool_bytes: int = Field(default=1024 * 1024 * 1024, ge=64 * 1024)
    """Bytes of all lines on this host that are not in the database yet."""
    move_interval: float = Field(default=3.0, ge=0.05, le=60)
    """Interval in which lines are moved to the database, in seconds."""
    entry_days: Days = 90
    """Days for which the line of each request is kept in the database."""
    minute_days: Days = 14
    """Days for which the sums of each minute are kept."""
    hour_days: Days = 400
    """Days for which the sums of each hour are kept."""
    day_days: Days = 3650
    """Days for which the sums of each day are kept."""

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if not self.enabled:
            for name in sorted(self.model_fields_set - {"enabled"}):
                raise ValueError(f"{name} has no effect without usage.enabled; set it too")
        return self
