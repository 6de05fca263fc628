"""Limits and budgets: amounts of a unit that a scope may use in a window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from maxgate.generation.context import Principal, RequestContext

ScopeKind: TypeAlias = Literal["key", "user", "project", "organization"]
Unit: TypeAlias = Literal[
    "requests",
    "tokens",  # input and output
    "input_tokens",
    "output_tokens",
    "concurrent_requests",
    "tokens_per_request",
    "money",  # in millionths of the currency, by the selling price
    "gpu_milliseconds",
]
Window: TypeAlias = Literal["minute", "hour", "day", "week", "month", "total", "none"]
"""Calendar windows; `none` for concurrent requests and tokens per request."""

UNLIMITED: Final = 2**53 - 1
"""Amount of a limit that only reports use; Lua counts up to it."""
RATE_LIMIT_HEADERS: Final = tuple(
    f"x-ratelimit-{what}-{kind}"
    for kind in ("requests", "tokens")
    for what in ("limit", "remaining", "reset")
)
"""OpenAI's names of the response headers that describe limits."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything that one limit counts together.

    With a `model`, only requests to this model count. `id` is empty for the organization.
    """

    kind: ScopeKind
    id: str = ""
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """An amount of use that is reported once in each window of a limit.

    `percent` is the share of the limit, None for an amount of its own. `recipients` are e-mail
    addresses for the receiver of the report.
    """

    id: str
    amount: int
    percent: int | None = None
    recipients: tuple[str, ...] = ()
    subject_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """An amount that a scope may use in a window, which begins at midnight in `time_zone`.

    A `budget` is answered with `insufficient_quota`, other limits with `rate_limit_exceeded`.
    `name` is shown to clients beside the scope, such as `requests per minute`. The `alerts` have
    ascending amounts.
    """

    scope: Scope
    unit: Unit
    window: Window
    amount: int
    name: str
    is_budget: bool = False
    time_zone: str = "UTC"
    alerts: tuple[Alert, ...] = ()


class LimitSource(Protocol):
    """Finds the limits of a caller."""

    @property
    def is_empty(self) -> bool:
        """Whether there is no limit of anyone."""
        return False

    @property
    def bounds_requests(self) -> bool:
        """Whether any limit is one of tokens per request."""
        ...

    def on_change(self, forget: Callable[[], None]) -> None:
        """Call `forget` after each change of the limits; by default, they never change."""
        del forget

    def find(self, principal: Principal, model: str) -> Sequence[Limit]:
        """Return all limits that apply to a request of this caller to a model, in memory."""
        ...


class EdgeLimits(Protocol):
    """Limits as the HTTP edge sees them."""

    def check(self, principal: Principal) -> None:
        """Raise LimitExceeded if a limit of the caller is known to be exhausted."""
        ...

    def format_headers(self, context: RequestContext) -> bytes:
        """Return the header lines that describe the limits of a request, with CR and LF."""
        ...
