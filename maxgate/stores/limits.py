"""Limits and budgets that are kept in the database, and the interface to them.

Amounts are whole numbers of a unit; money is in millionths of the currency. All times are in whole
Unix seconds.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

ScopeKind: TypeAlias = Literal["key", "user", "project", "organization"]
Unit: TypeAlias = Literal[
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "concurrent_requests",
    "tokens_per_request",
    "money",
    "gpu_milliseconds",
]
Window: TypeAlias = Literal["minute", "hour", "day", "week", "month", "total", "none"]
Claim: TypeAlias = Literal["own", "busy", "sent"]

MAX_AMOUNT: Final = 10**15
"""Largest amount of a limit: a thousand million of a currency, or sums that Lua counts exactly."""


class ScopeKey(NamedTuple):
    """The key, user, service account or project of a limit; the organization has no id."""

    kind: ScopeKind
    id: str = ""


@dataclass(frozen=True, slots=True)
class StoredLimit:
    """An amount that a scope may use in a window; see maxgate/limits/limit.py.

    `project_id` is the project of the scope, empty for the organization and for users, whose limits
    count in all projects. An empty `model` is for all models. `amount` is None if there are alerts
    only: at `alert_percents` of the amount, and at `alert_amount`. There is one limit for each
    scope, model, unit and window.
    """

    project_id: str
    id: str
    scope: ScopeKind
    scope_id: str
    model: str
    unit: Unit
    window: Window
    amount: int | None
    created_at: int
    time_zone: str = "UTC"
    is_budget: bool = False
    alert_percents: tuple[int, ...] = ()
    alert_amount: int | None = None
    version: int = 1

    @property
    def scope_key(self) -> ScopeKey:
        """The scope that the limit counts."""
        return ScopeKey(self.scope, self.scope_id)


@dataclass(frozen=True, slots=True)
class SpendAlert:
    """An amount of money whose use by a project or the organization in a month (UTC) is reported.

    `project_id` is empty for the organization. `recipients` are e-mail addresses.
    """

    project_id: str
    id: str
    amount: int
    recipients: tuple[str, ...]
    subject_prefix: str | None
    created_at: int
    version: int = 1

    @property
    def scope_key(self) -> ScopeKey:
        """The scope whose use is reported."""
        return ScopeKey("project", self.project_id) if self.project_id else ScopeKey("organization")


@dataclass(frozen=True, slots=True)
class LimitChanges:
    """All limits and alerts of the scopes that have changed until a revision.

    `scopes` is None for all scopes.
    """

    revision: int
    scopes: Collection[ScopeKey] | None
    limits: Sequence[StoredLimit] = ()
    alerts: Sequence[SpendAlert] = ()


class LimitStore(Protocol):
    """Reads limits for enforcement, and remembers which alerts were sent.

    IdentityTransaction changes limits. All methods raise StoreUnavailable.
    """

    async def read_changes(self, since: int | None) -> LimitChanges:
        """Return the scopes that have changed after a revision, all if it is None or unknown."""
        ...

    async def claim_alert(self, alert_id: str, now: int, lease: int) -> Claim:
        """Claim an alert for `lease` seconds: `own` if the caller is to send it now.

        It is `busy` while another gateway sends it, and `sent` once one has.
        """
        ...

    async def finish_alert(self, alert_id: str, now: int) -> None:
        """Remember that an alert was sent."""
        ...
