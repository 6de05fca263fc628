"""Refusals by limits and budgets; each names the limit, its amount and its reset."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import ClassVar, Final

from typing_extensions import override

from maxgate.errors import GatewayError, InvalidRequest
from maxgate.limits.limit import Limit

_CONCURRENCY_RETRY: Final = 1.0
"""Seconds after which a request that runs may have ended."""
_MICRO: Final = 1_000_000


class LimitExceeded(GatewayError):
    """A limit or budget refuses the request. `limit` is the limit."""

    status = 429
    limit: Limit


class RateLimitExceeded(LimitExceeded):
    """A limit is reached; a retry may succeed after its reset."""

    type: ClassVar[str] = "requests"
    default_code = "rate_limit_exceeded"

    def __init__(self, limit: Limit, *, requested: int, resets_at: float, now: float) -> None:
        """Times are in seconds since 1970; `resets_at` may be infinite."""
        self.limit = limit
        self.can_retry = requested <= limit.amount and limit.amount > 0
        wait = _CONCURRENCY_RETRY if math.isinf(resets_at) else max(resets_at - now, 0.001)
        if self.can_retry:
            seconds = f"{wait:.0f}" if wait >= 10 else f"{wait:.3g}"
            advice = f"Retry after the time in Retry-After ({seconds} s)."
        elif limit.amount:
            advice = "The request is larger than the limit; make it smaller."
        else:
            advice = "Nothing is allowed until an administrator raises the limit."
        super().__init__(
            f"Rate limit reached: {_describe(limit)}, requested {requested}. {advice}",
            retry_after=wait if self.can_retry else None,
        )

    @override
    def headers(self) -> dict[str, str]:
        headers = super().headers()
        headers["x-should-retry"] = "true" if self.can_retry else "false"
        return headers


class TokenLimitExceeded(RateLimitExceeded):
    """A limit of tokens, or of money or GPU time, is reached."""

    type: ClassVar[str] = "tokens"


class QuotaExhausted(LimitExceeded):
    """A budget is used up, or smaller than the request; retrying cannot help."""

    type: ClassVar[str] = "insufficient_quota"
    default_code = "insufficient_quota"
    should_retry = False

    def __init__(self, limit: Limit, *, requested: int, resets_at: float) -> None:
        self.limit = limit
        reason = "The budget is used up"
        if not limit.amount:
            reason = "The budget is 0, and allows nothing until an administrator raises it"
        elif requested > limit.amount:
            reason = "The request may use more than the whole budget; lower max_tokens or n"
        reset = (
            "It does not reset."
            if math.isinf(resets_at)
            else f"It resets at {datetime.fromtimestamp(resets_at, UTC):%Y-%m-%dT%H:%M:%SZ}."
        )
        super().__init__(f"{reason}: {_describe(limit)}. {reset}")


class TooManyTokens(InvalidRequest):
    """The request asks for more tokens than one request may use."""

    default_code = "integer_above_max_value"


def build_refusal(limit: Limit, *, requested: int, resets_at: float, now: float) -> LimitExceeded:
    """Return the error of a request that exceeds a limit; times are in seconds since 1970."""
    if limit.is_budget:
        return QuotaExhausted(limit, requested=requested, resets_at=resets_at)
    kind = RateLimitExceeded if "requests" in limit.unit else TokenLimitExceeded
    return kind(limit, requested=requested, resets_at=resets_at, now=now)


def _describe(limit: Limit) -> str:
    scope = limit.scope
    place = "this gateway" if scope.kind == "organization" else f"{scope.kind} {scope.id}"
    if scope.model is not None:
        place += f", model {scope.model}"
    amount = f"{limit.amount}"
    if limit.unit == "money":
        amount = _format_parts(limit.amount, _MICRO)
    elif limit.unit == "gpu_milliseconds":
        amount = f"{_format_parts(limit.amount, 1000)} GPU seconds"
    return f"{limit.name} of {place}: limit {amount}"


def _format_parts(amount: int, parts: int) -> str:
    """Format an amount that is counted in parts of a unit, without an exponent."""
    return f"{(Decimal(amount) / parts).normalize():f}"


def refuse_tokens(text: str, max_tokens: int, choices: int, param: str) -> TooManyTokens:
    """Build the refusal of a request with more tokens than one may have."""
    each = "" if choices == 1 else f" for all {choices} choices"
    return TooManyTokens(
        f"Too many tokens: {text}; a request may use {max_tokens}{each}. Ask for less.", param=param
    )
