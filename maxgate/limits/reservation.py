"""The amounts of limits and budgets that a client request holds until it ends."""

import asyncio
import math
from typing import Final

from typing_extensions import override

from maxgate.generation import context
from maxgate.generation.chunk import Usage
from maxgate.generation.request_record import RequestRecord
from maxgate.limits.counter import Counter
from maxgate.limits.errors import LimitExceeded, build_refusal
from maxgate.limits.exchanges import Refusal
from maxgate.limits.planner import UNITS, Amounts, Plan, Planner
from maxgate.limits.table import MAX_AMOUNT

_REQUESTS: Final = UNITS.index("requests")
_INPUT: Final = UNITS.index("input_tokens")
_OUTPUT: Final = UNITS.index("output_tokens")
_ALL_BUT_A_REST: Final = 0.99
"""Part of a budget from which on a refusal means that it is used up: no request fits into less."""
_CUT: Final = frozenset({"client_gone", "timeout", "truncated"})


class Reservation(context.Reservation):
    """The amounts that one client request has taken from its counters, once `pending` is done.

    It is settled by the tokens of the record. A request that no engine was called for uses nothing;
    one that an engine has worked on counts as a request, whatever it led to.
    """

    __slots__ = ("_amounts", "_at", "_error", "_planner", "pending", "plan")

    def __init__(self, planner: Planner, plan: Plan, amounts: Amounts, at: float) -> None:
        self._planner = planner
        self.plan = plan
        self._amounts = amounts
        self._at = at
        self._error: LimitExceeded | None = None
        self.pending: asyncio.Future[Refusal] | None = None

    def take(self) -> LimitExceeded | None:
        """Take all amounts, or return the refusal; `pending` is set if this takes time."""
        costs = [(counter, self._amounts[unit]) for counter, unit in self.plan.entries.all]
        outcome = self._planner.counters.take(costs)
        if outcome is None:
            return None
        if isinstance(outcome, Counter):
            return self._refuse(outcome)
        self.pending = outcome
        return None

    async def wait(self) -> LimitExceeded | None:
        """Wait until all amounts are taken; returns the refusal."""
        if self.pending is not None:
            counter = await asyncio.shield(self.pending)  # other engine calls wait, too
            if counter is not None and self._error is None:
                self._refuse(counter)
            self.pending = None
        return self._error

    @override
    def settle(self, record: RequestRecord) -> None:
        if self.pending is not None:
            if self.pending.cancel():
                return
            if self.pending.result() is not None:
                return
        elif self._error is not None:
            return
        plan, used = self.plan, self._count(record)
        counters = self._planner.counters
        if not used[_REQUESTS]:
            counters.refund(plan.entries, self._amounts, used)
        counters.settle_held(plan.entries, self._amounts, used)
        if plan.with_alerts:
            for counter in plan.with_alerts:
                self._planner.alerts.report(
                    counter.limit, _find_start(counter), _find_used(counter)
                )

    def _refuse(self, counter: Counter) -> LimitExceeded:
        self._planner.count(counter.limit)
        limit = counter.limit
        if limit.is_budget:
            used = _find_used(counter)
            if used >= limit.amount * _ALL_BUT_A_REST:
                used = limit.amount
            self._planner.alerts.report(limit, _find_start(counter), used)
        unit = next(unit for other, unit in self.plan.entries.all if other is counter)
        self._error = build_refusal(
            counter.limit,
            requested=self._amounts[unit],
            resets_at=counter.ends_at,
            now=self._planner.wall(),
        )
        return self._error

    def _count(self, record: RequestRecord) -> Amounts:
        if not record.engine_calls:
            return 0, 0, 0, 0, 0, 0, 0
        amounts = self._amounts
        tokens, output = record.prompt_tokens, record.completion_tokens
        if not 0 <= tokens < MAX_AMOUNT:
            tokens = amounts[_INPUT]  # the engine's count is absurd
        if not 0 <= output < MAX_AMOUNT:
            output = amounts[_OUTPUT]
        if not tokens and not output and record.outcome in _CUT:
            tokens = amounts[_INPUT]  # the engine has read the prompt
        if not self.plan.has_costs:
            return 1, tokens + output, tokens, output, 0, 0, 0
        planner, money = self._planner, 0
        gpu_seconds = record.engine_seconds / planner.find_batch_size(self.plan.model)
        if self.plan.has_money:
            cached = record.cached_tokens if 0 <= record.cached_tokens < MAX_AMOUNT else 0
            usage = Usage(tokens, output, min(cached, tokens))
            money = max(planner.price(self.plan.model, usage, self._at, gpu_seconds), 0)
        return 1, tokens + output, tokens, output, 0, money, round(gpu_seconds * 1000)


def _find_used(counter: Counter) -> int:
    """Return what has been used, without what requests in progress hold."""
    return counter.amount - counter.remaining - counter.reserved


def _find_start(counter: Counter) -> int:
    """Return the beginning of the window in seconds since 1970, 0 for a budget in total."""
    return 0 if math.isinf(counter.start) else int(counter.start)
