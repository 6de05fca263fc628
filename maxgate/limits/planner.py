"""The counters of a caller and a model, kept until the first window ends."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from maxgate.clock import Clock
from maxgate.generation.backend import EmbeddingRequest
from maxgate.generation.chunk import Usage
from maxgate.generation.context import Principal
from maxgate.generation.request import GenerationRequest
from maxgate.limits.alerts import AlertSink, NoAlerts
from maxgate.limits.counter import Counter
from maxgate.limits.counters import Counters
from maxgate.limits.entries import UNITS, Amounts, Entries
from maxgate.limits.errors import refuse_tokens
from maxgate.limits.headers import LimitHeaders
from maxgate.limits.limit import Limit, LimitSource

Price: TypeAlias = Callable[[str, Usage, float, float], int]
"""Returns the price in millionths, given model, usage, seconds since 1970, and seconds of GPU."""
CountRefusal: TypeAlias = Callable[[Limit], None]
Request: TypeAlias = GenerationRequest | EmbeddingRequest

_TOKENS: Final = frozenset({"tokens", "output_tokens"})
_COSTS: Final = frozenset({"money", "gpu_milliseconds"})
_BATCHED: Final = frozenset({"requests", "tokens", "concurrent_requests"})
_ASSUMED_PART: Final = 10
"""Part of a limit of tokens that a request without `max_tokens` reserves for its output."""
_MAX_PLANS: Final = 10_000
# Of text that the engine encodes; English has more.
_CHARACTERS_PER_TOKEN: Final = 3
_TOKENS_PER_MESSAGE: Final = 8


@dataclass(slots=True, eq=False)
class Plan:
    """The counters that a request of a caller to a model takes from, with the index of each unit.

    `checked` are the counters that may refuse a request before its body is read, and `with_alerts`
    those whose use is reported after each request. `headers` describe the limits. `max_tokens` is
    that of one request, and `max_assumed` the output that a request reserves which does not limit
    it. The plan is for one `model`, and valid from `starts_at` to `ends_at`, in seconds since 1970.
    """

    planner: "Planner"
    model: str
    entries: Entries
    checked: Sequence[Counter]
    headers: LimitHeaders
    max_tokens: int | None
    max_assumed: int
    starts_at: float
    ends_at: float
    has_money: bool
    has_costs: bool
    with_alerts: Sequence[Counter]


@dataclass(slots=True, eq=False)
class CallerPlans:
    """The plans of a caller by model.

    No limit of all models was exhausted in `open_version` of the counters.
    """

    by_model: dict[str, Plan]
    open_version: int = -1


def ignore_price(model: str, usage: Usage, at: float, gpu_seconds: float) -> int:
    """Return the price without rate cards: nothing."""
    del model, usage, at, gpu_seconds
    return 0


class Planner:
    """Finds the limits of requests, and what they take.

    A planner that `is_empty` has no limits for anyone, and needs not be asked. `callers` have the
    plans of each `Principal.caller`, and `exchanges` the version of all counters.
    """

    def __init__(
        self,
        source: LimitSource,
        counters: Counters,
        clock: Clock,
        *,
        assumed_output: int,
        price: Price = ignore_price,
        count: CountRefusal = lambda _: None,
        alerts: AlertSink | None = None,
        find_batch_size: Callable[[str], int] = lambda _: 1,
    ) -> None:
        """`assumed_output` is the output of a request that does not limit it, in tokens.

        `count` counts refusals. `find_batch_size` returns how many requests the engine of a model
        works on at once; a request uses this part of its GPUs.
        """
        self.find_batch_size = find_batch_size
        self.count = count
        self.alerts = alerts or NoAlerts()
        self.counters = counters
        self.exchanges = counters.exchanges
        self.price = price
        self.wall = clock.wall
        self.monotonic = clock.monotonic
        self._source = source
        self._assumed_output = assumed_output
        self.callers: dict[str, CallerPlans] = {}
        self._size = 0
        self.is_empty = source.is_empty
        self.bounds_requests = source.bounds_requests
        source.on_change(self._forget)

    def find(self, principal: Principal, model: str, now: float) -> Plan | None:
        """Return the plan of a caller and a model, None without limits."""
        caller = self.callers.get(principal.caller)
        if caller is not None:
            plan = caller.by_model.get(model)
            if plan is not None and plan.starts_at <= now < plan.ends_at:
                return plan
        limits = self._source.find(principal, model)
        if not limits:
            return None
        if self._size >= _MAX_PLANS:
            self._clear()
        caller = self.callers.setdefault(principal.caller, CallerPlans({}))
        self._size += model not in caller.by_model
        plan = caller.by_model[model] = self._build(limits, model, now)
        return plan

    def _clear(self) -> None:
        self.callers.clear()
        self._size = 0

    def _forget(self) -> None:
        self._clear()
        self.is_empty = self._source.is_empty
        self.bounds_requests = self._source.bounds_requests

    def _build(self, limits: Sequence[Limit], model: str, now: float) -> Plan:
        entries: dict[Counter, int] = {}
        max_tokens = None
        for limit in sorted(limits, key=lambda limit: limit.amount, reverse=True):
            if limit.unit == "tokens_per_request":
                max_tokens = limit.amount  # at last, the smallest
            else:
                entries[self.counters.open(limit, now)] = UNITS.index(limit.unit)
        with_alerts = [counter for counter in entries if counter.limit.alerts]
        is_batched = not with_alerts and all(c.limit.unit in _BATCHED for c in entries)
        outputs = [limit.amount for limit in limits if limit.unit in _TOKENS]
        assumed = min([self._assumed_output, *[max(a // _ASSUMED_PART, 1) for a in outputs]])
        taken = Entries(list(entries.items()), is_batched=is_batched)
        return Plan(
            self,
            model,
            taken,
            [c for c in entries if c.limit.unit == "requests" or c.limit.is_budget],
            LimitHeaders(taken),
            max_tokens,
            assumed,
            max([counter.start for counter in entries], default=-math.inf),
            taken.ends_at,
            any(limit.unit == "money" for limit in limits),
            any(limit.unit in _COSTS for limit in limits),
            with_alerts,
        )

    def estimate(self, plan: Plan, request: Request) -> tuple[int, int]:
        """Return the tokens of the prompt, and the maximum of the output, of a client request.

        `request` is its first engine call. Raises TooManyTokens for inputs of embeddings that are
        longer than those of a request may be.
        """
        choices = request.context.choices
        if isinstance(request, EmbeddingRequest):
            tokens, output = count_prompt_tokens(request), 0
            if plan.max_tokens is not None and tokens > plan.max_tokens:
                raise refuse_tokens(f"the inputs have {tokens} tokens", plan.max_tokens, 1, "input")
        else:
            prompt, asked = request.prompt_token_ids, request.sampling.max_tokens
            tokens = count_prompt_tokens(request) if prompt is None else prompt.length
            if asked is None:
                asked = request.model.sampling.max_tokens
            if asked is None:
                asked = min(plan.max_assumed, max(request.model.context_length - tokens, 0))
            output = asked
        return (tokens, output) if choices == 1 else (tokens * choices, output * choices)

    def build_amounts(
        self, plan: Plan, request: Request, tokens: int, output: int, now: float
    ) -> Amounts:
        """Return what a request takes that uses at most so many tokens."""
        money = 0
        if plan.has_money:
            money = max(self.price(request.model.name, Usage(tokens, output), now, 0.0), 0)
        return 1, tokens + output, tokens, output, 1, money, 0


def count_prompt_tokens(request: Request) -> int:
    """Return the length of the prompt, estimated if the engine formats it."""
    if isinstance(request, EmbeddingRequest):
        return sum([prompt.length for prompt in request.prompts])
    if request.prompt_token_ids is not None:
        return request.prompt_token_ids.length
    if isinstance(request.raw_prompt, tuple):
        return len(request.raw_prompt)
    characters = len(request.raw_prompt or "")
    characters += sum([len(part) for message in request.messages for part in message.parts])
    messages = len(request.messages) * _TOKENS_PER_MESSAGE
    return characters // _CHARACTERS_PER_TOKEN + messages
