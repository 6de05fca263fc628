"""The amounts of limits and budgets that a client request holds until it ends."""

import asyncio
import math
from typing import Final

from maxgate.generation.chunk import Usage
from maxgate.generation.request_record import Outcome, RequestRecord
from maxgate.limits.counter import Counter
from maxgate.limits.entries import TOKENS, UNITS, Amounts
from maxgate.limits.errors import LimitExceeded, build_refusal
from maxgate.limits.exchanges import Refusal
from maxgate.limits.planner import Plan
from maxgate.limits.table import MAX_AMOUNT

_NOTHING: Final[Amounts] = (0, 0, 0, 0, 0, 0, 0)
_INPUT: Final = UNITS.index("input_tokens")
_OUTPUT: Final = UNITS.index("output_tokens")
_ALL_BUT_A_REST: Final = 0.99
"""Part of a budget from which on a refusal means that it is used up: no request fits into less."""
_CUT: Final = frozenset({"client_gone", "timeout", "truncated"})


class PlannedReservation:
    """What one client request has taken of the counters of a plan, until it is settled.

    Subclasses are a `generation.context.Reservation`, but do not inherit from it: `isinstance`
    takes several times as long for a protocol. LimitGuard sets all attributes, since calling an
    `__init__` takes as long as taking three amounts.
    """

    __slots__ = ("plan",)
    plan: Plan


class BlockReservation(PlannedReservation):
    """A request that was taken from a block, with its prompt and its maximum output in tokens."""

    __slots__ = ("output", "tokens")
    tokens: int
    output: int

    def settle(self, record: RequestRecord) -> None:
        """Count the tokens of the record, with the batch if possible."""
        plan, tokens = self.plan, record.prompt_tokens
        used, total = tokens + record.completion_tokens, self.tokens + self.output
        is_plausible = record.engine_calls and 0 < tokens <= used <= total
        counters = plan.planner.counters
        if is_plausible and counters.settle_later(plan.entries, used, total - used):
            return
        reservation = Reservation()
        reservation.plan, reservation.at = plan, 0.0  # it has no price
        reservation.amounts = 1, total, self.tokens, self.output, 1, 0, 0
        reservation.pending = reservation.error = None
        reservation.settle(record)


class Reservation(PlannedReservation):
    """The amounts that one client request has taken from its counters, once `pending` is done.

    It is settled by the tokens of the record. A request that no engine was called for uses nothing;
    one that an engine has worked on counts as a request, whatever it led to. `at` is the time of
    the request in seconds since 1970.
    """

    __slots__ = ("amounts", "at", "error", "pending")
    amounts: Amounts
    at: float
    pending: asyncio.Future[Refusal] | None
    error: LimitExceeded | None

    def take(self) -> None:
        """Take all amounts; set `error` if they are refused, and `pending` if this takes time."""
        costs = [(counter, self.amounts[unit]) for counter, unit in self.plan.entries.all]
        outcome = self.plan.planner.counters.take(costs)
        if isinstance(outcome, Counter):
            self._refuse(outcome)
        else:
            self.pending = outcome

    async def wait(self) -> LimitExceeded | None:
        """Wait until all amounts are taken; returns the refusal."""
        if self.pending is not None:
            counter = await asyncio.shield(self.pending)  # other engine calls wait, too
            if counter is not None and self.error is None:
                self._refuse(counter)
            self.pending = None
        return self.error

    def settle(self, record: RequestRecord) -> None:
        """Count the real usage and release the rest."""
        if (self.pending is not None or self.error is not None) and not self._is_taken():
            return
        plan, amounts, used = self.plan, self.amounts, _NOTHING
        counters = plan.planner.counters
        if record.engine_calls:
            tokens, output = record.prompt_tokens, record.completion_tokens
            if tokens <= 0 or output < 0 or tokens + output >= MAX_AMOUNT:
                tokens, output = self._correct(tokens, output, record.outcome)
            all_tokens = tokens + output
            unused = amounts[TOKENS] - all_tokens
            entries = plan.entries
            # What exceeds the reservation must count before the next take.
            if unused >= 0 and counters.settle_later(entries, all_tokens, unused):
                return
            if entries.is_batched:
                counters.batch.count_unbatched(entries)
            used = 1, all_tokens, tokens, output, 0, 0, 0
            if plan.has_costs:
                used = self._add_costs(used, record)
        else:
            counters.refund(plan.entries, amounts, used)
        counters.settle_held(plan.entries, amounts, used)
        if plan.with_alerts:
            self._report()

    def _is_taken(self) -> bool:
        """Return whether the amounts are taken; cancels a take that is waited for."""
        if self.pending is None:
            return self.error is None
        return not self.pending.cancel() and self.pending.result() is None

    def _report(self) -> None:
        for counter in self.plan.with_alerts:
            self.plan.planner.alerts.report(
                counter.limit, _find_start(counter), _find_used(counter)
            )

    def _refuse(self, counter: Counter) -> None:
        self.plan.planner.count(counter.limit)
        self.plan.headers.lines = None  # the response tells what is left now
        limit = counter.limit
        if limit.is_budget:
            used = _find_used(counter)
            if used >= limit.amount * _ALL_BUT_A_REST:
                used = limit.amount
            self.plan.planner.alerts.report(limit, _find_start(counter), used)
        unit = next(unit for other, unit in self.plan.entries.all if other is counter)
        self.error = build_refusal(
            counter.limit,
            requested=self.amounts[unit],
            resets_at=counter.ends_at,
            now=self.plan.planner.wall(),
        )

    def _add_costs(self, used: Amounts, record: RequestRecord) -> Amounts:
        """Return the amounts with the price and the time of GPUs."""
        tokens, output = used[_INPUT], used[_OUTPUT]
        planner, money = self.plan.planner, 0
        gpu_seconds = record.engine_seconds / planner.find_batch_size(self.plan.model)
        if self.plan.has_money:
            cached = record.cached_tokens if 0 <= record.cached_tokens < MAX_AMOUNT else 0
            usage = Usage(tokens, output, min(cached, tokens))
            money = max(planner.price(self.plan.model, usage, self.at, gpu_seconds), 0)
        return 1, tokens + output, tokens, output, 0, money, round(gpu_seconds * 1000)

    def _correct(self, tokens: int, output: int, outcome: Outcome | None) -> tuple[int, int]:
        """Return plausible tokens of prompt and output, given those that the engine counted."""
        if not 0 <= tokens < MAX_AMOUNT:
            tokens = self.amounts[_INPUT]
        if not 0 <= output < MAX_AMOUNT:
            output = self.amounts[_OUTPUT]
        if not tokens and not output and outcome in _CUT:
            tokens = self.amounts[_INPUT]  # the engine has read the prompt
        return tokens, output


def _find_used(counter: Counter) -> int:
    """Return what has been used, without what requests in progress hold."""
    return counter.amount - counter.remaining - counter.reserved


def _find_start(counter: Counter) -> int:
    """Return the beginning of the window in seconds since 1970, 0 for a budget in total."""
    return 0 if math.isinf(counter.start) else int(counter.start)
