"""A client request reserves once, before its first engine call, and is settled at the edge."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from maxgate.generation.chunk import Usage
from maxgate.generation.context import ANONYMOUS, Principal, RequestContext
from maxgate.generation.guard import NoGuard
from maxgate.generation.request import GenerationRequest, TokenIds
from maxgate.generation.request_record import Outcome
from maxgate.limits.batch import UNBATCHED
from maxgate.limits.errors import LimitExceeded, QuotaExhausted, RateLimitExceeded
from maxgate.limits.headers import format_duration, split_lines
from maxgate.limits.limit import Limit
from maxgate.limits.limits import Limits
from maxgate.limits.memory_table import MemoryTable
from maxgate.limits.reservation import PlannedReservation
from maxgate.limits.settings import LimitSettings
from maxgate.limits.table import LEASE_SECONDS
from tests.fakes.clock import FakeClock
from tests.fakes.counter_tables import MemoryTables
from tests.fakes.requests import generation_request, request_context, served_model

PROMPT = TokenIds.of([1] * 10)
MODEL = served_model("small", context_length=10_000)
ALICE = Principal("p1", "p1", "alice", "key_1", "default")
MANY_REQUESTS = UNBATCHED + 1
"""Requests of a caller after which the next ones are batched."""
RESET = 20.0  # the fake clock starts 40 s after a full minute


class Gate:
    """Limits of one process, and requests that pass them."""

    def __init__(
        self, table: MemoryTable | None = None, clock: FakeClock | None = None, **settings: Any
    ) -> None:
        self.clock = clock or FakeClock()
        self.refused: list[str] = []
        self.alerts: list[tuple[str, int]] = []
        self.limits = Limits(
            LimitSettings(**settings),
            table or MemoryTable(self.clock),
            self.clock,
            price=lambda model, usage, at, gpu_seconds: usage.prompt + 2 * usage.completion,
            count=lambda limit: self.refused.append(limit.unit),
            alerts=self,
        )
        self.guard = self.limits.guard(None)

    def report(self, limit: Limit, window_start: int, used: int) -> None:
        """Note what is reported for alerts."""
        del window_start
        self.alerts.append((limit.unit, used))

    async def admit(
        self, request: GenerationRequest | None = None, **fields: Any
    ) -> RequestContext:
        """Make the first engine call of a request, and return its context."""
        fields = {"prompt": PROMPT, "max_tokens": 20, "model": MODEL, **fields}
        request = request or generation_request(**fields)
        async with self.guard.admit(request) as lease:
            assert isinstance(lease, NoGuard)
        return request.context

    async def end(
        self,
        context: RequestContext,
        usage: Usage | None,
        outcome: Outcome = "ok",
        *,
        engine_calls: int = 1,
    ) -> None:
        """End a request as the edge does."""
        record = context.record
        record.engine_calls, record.outcome = engine_calls, outcome
        if usage is not None:
            record.prompt_tokens, record.completion_tokens, record.cached_tokens = usage
        if context.reservation is not None:
            context.reservation.settle(record)

    async def serve(self, requests: int) -> None:
        """Serve requests one after the other, each with 15 tokens."""
        for _ in range(requests):
            await self.end(await self.admit(), Usage(10, 5))

    def end_batch(self) -> None:
        """End the batch as its timer does."""
        self.limits.counters.batch.end()

    async def read(self, context: RequestContext) -> Mapping[str, str]:
        """Return the headers of a response in a new iteration of the event loop, by their ends."""
        await asyncio.sleep(0)
        headers = split_lines(self.limits.edge.format_headers(context))
        return {str(k, "ascii")[12:]: str(v, "ascii") for k, v in headers}

    async def count(self, **fields: Any) -> int:
        """Return how many requests are admitted at once."""
        for number in range(200):
            try:
                await self.admit(**fields)
            except LimitExceeded:
                return number
        return -1


async def test_reservation() -> None:
    """A request reserves prompt and output; what it did not use is free when it ends."""
    gate = Gate(everyone={"tokens_per_minute": 1000, "requests_per_minute": 3})
    context = await gate.admit()
    expected = {
        "limit-requests": "3",
        "remaining-requests": "2",
        "reset-requests": "20s",
        "limit-tokens": "1000",
        "remaining-tokens": "970",
        "reset-tokens": "20s",
    }
    assert await gate.read(context) == expected
    await gate.end(context, Usage(10, 5))
    assert await gate.read(context) == expected | {"remaining-tokens": "985"}


async def test_one_reservation() -> None:
    """All engine calls of a request share its reservation, which counts all choices."""
    gate = Gate(everyone={"tokens_per_minute": 1000, "requests_per_minute": 3})
    request = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    request.context.choices = 4
    for _ in range(4):
        await gate.admit(request)
    headers = await gate.read(request.context)
    assert (headers["remaining-requests"], headers["remaining-tokens"]) == ("2", "880")


@pytest.mark.parametrize(
    ("usage", "outcome", "engine_calls", "requests", "tokens"),
    [
        (Usage(10, 5), "ok", 1, 2, 985),
        (Usage(10, 50), "ok", 1, 2, 940),  # more than it asked for
        (Usage(10, 3), "client_gone", 1, 2, 987),  # left in the middle of a stream
        (None, "client_gone", 1, 2, 990),  # left before anything was sent: the prompt counts
        (None, "upstream_error", 1, 2, 1000),  # the engine failed
        (None, "unavailable", 0, 3, 1000),  # refused by the queue
        (Usage(-5, 7), "ok", 1, 2, 983),  # no credit: the prompt that was reserved
        (Usage(10, -7), "ok", 1, 2, 970),
    ],
)
async def test_settlement(
    usage: Usage | None, outcome: Outcome, engine_calls: int, requests: int, tokens: int
) -> None:
    """A request counts with its use, however it ends."""
    gate = Gate(everyone={"tokens_per_minute": 1000, "requests_per_minute": 3})
    context = await gate.admit()
    await gate.end(context, usage, outcome, engine_calls=engine_calls)
    headers = await gate.read(context)
    assert (headers["remaining-requests"], headers["remaining-tokens"]) == (
        str(requests),
        str(tokens),
    )


async def test_refusal() -> None:
    """A refusal names the limit and the time of its reset, and takes nothing."""
    gate = Gate(each_project={"requests_per_minute": 1, "tokens_per_minute": 1000})
    context = await gate.admit()
    request = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    with pytest.raises(RateLimitExceeded) as refusal:
        await gate.admit(request)
    error = refusal.value
    assert (error.status, error.type, error.code) == (429, "requests", "rate_limit_exceeded")
    assert error.message == (
        "Rate limit reached: requests per minute of project anonymous: limit 1, requested 1. "
        "Retry after the time in Retry-After (20 s)."
    )
    assert error.headers() == {
        "retry-after": "20",
        "retry-after-ms": "20000",
        "x-should-retry": "true",
    }
    assert (await gate.read(request.context))["remaining-requests"] == "0"
    await gate.end(request.context, None, engine_calls=0)
    assert (await gate.read(context))["remaining-tokens"] == "970"
    assert gate.refused == ["requests"]


async def test_reset() -> None:
    """The next request succeeds at the reset, and not before."""
    gate = Gate(everyone={"requests_per_minute": 1})
    await gate.admit()
    gate.clock.advance(RESET - 0.01)
    assert await gate.count() == 0
    gate.clock.advance(0.01)
    assert await gate.count() == 1


@pytest.mark.parametrize("is_shared", [False, True])
async def test_early_refusal(*, is_shared: bool) -> None:
    """The edge refuses before it reads bodies, from the last take until the window ends."""
    tables = MemoryTables()
    gate = Gate(
        tables.table if is_shared else None,  # type: ignore[arg-type]
        everyone={"requests_per_minute": 3, "tokens_per_minute": 10**6},
    )
    for _ in range(3):
        gate.limits.edge.check(ANONYMOUS)
        await gate.admit()
    for _ in range(2):
        with pytest.raises(RateLimitExceeded):
            gate.limits.edge.check(ANONYMOUS)
    assert await gate.count() == 0
    gate.clock.advance(RESET)
    gate.limits.edge.check(ANONYMOUS)
    assert await gate.count() == 3
    with pytest.raises(RateLimitExceeded):
        gate.limits.edge.check(ANONYMOUS)


async def test_early_refusal_by_refund() -> None:
    """A request that was not made opens the edge again."""
    gate = Gate(everyone={"requests_per_minute": 1})
    context = await gate.admit()
    with pytest.raises(RateLimitExceeded):
        gate.limits.edge.check(ANONYMOUS)
    await gate.end(context, None, engine_calls=0)
    gate.limits.edge.check(ANONYMOUS)
    assert await gate.count() == 1


async def test_early_refusal_by_settlement() -> None:
    """A budget that a request has used up, beyond its reservation, closes the edge."""
    budget = {"unit": "tokens", "window": "month", "amount": 60}
    gate = Gate(each_project={"budgets": [budget]})
    gate.limits.edge.check(ANONYMOUS)
    context = await gate.admit()
    gate.limits.edge.check(ANONYMOUS)
    await gate.end(context, Usage(10, 50))
    with pytest.raises(QuotaExhausted):
        gate.limits.edge.check(ANONYMOUS)


async def test_request_above_limit() -> None:
    """A request that needs more than the limit is not retried."""
    gate = Gate(everyone={"tokens_per_minute": 25})
    with pytest.raises(RateLimitExceeded) as refusal:
        await gate.admit()
    assert refusal.value.type == "tokens"
    assert refusal.value.headers() == {"x-should-retry": "false"}


async def test_budget() -> None:
    """A budget that is used up is no rate limit."""
    budget = {"unit": "money", "window": "month", "amount": 0.0001}
    gate = Gate(each_key={"budgets": [budget]})
    request = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    request.context.principal = ALICE
    context = await gate.admit(request)
    await gate.end(context, Usage(10, 45))
    with pytest.raises(QuotaExhausted) as refusal:
        await gate.admit(request._replace(context=replace(request_context(), principal=ALICE)))
    error = refusal.value
    assert (error.status, error.type, error.code) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert error.headers() == {"x-should-retry": "false"}
    assert error.message == (
        "The budget is used up: money budget of key key_1: limit 0.0001. "
        "It resets at 2027-02-01T00:00:00Z."
    )
    with pytest.raises(QuotaExhausted):
        gate.limits.edge.check(ALICE)
    gate.limits.edge.check(replace(ALICE, key_id="key_2"))


async def test_limit_of_nothing() -> None:
    """A limit of 0 names who can change it."""
    gate = Gate(each_key={"requests_per_minute": 0})
    request = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    request.context.principal = ALICE
    with pytest.raises(RateLimitExceeded, match="until an administrator raises the limit"):
        await gate.admit(request)


async def test_refusals_by_a_budget() -> None:
    """A refusal reports the real use, unless so little is left that no request fits into it."""
    budgets = [{"unit": "tokens", "window": "day", "amount": 1000}]
    gate = Gate(each_key={"budgets": budgets})
    request = generation_request(prompt=PROMPT, max_tokens=2000, model=MODEL)
    request.context.principal = ALICE
    with pytest.raises(QuotaExhausted) as refusal:
        await gate.admit(request)
    assert refusal.value.message.startswith("The request may use more than the whole budget")
    small = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    small.context.principal = ALICE
    await gate.end(await gate.admit(small), Usage(10, 980))
    with pytest.raises(QuotaExhausted):
        await gate.admit(request._replace(context=replace(request_context(), principal=ALICE)))
    assert gate.alerts == [("tokens", 0), ("tokens", 1000)]


async def test_parallel_budget() -> None:
    """Of many requests at a time, only as many pass as the budget covers."""
    budget = {"unit": "tokens", "window": "day", "amount": 59}
    gate = Gate(everyone={"budgets": [budget]})
    outcomes = await asyncio.gather(*[gate.admit() for _ in range(200)], return_exceptions=True)
    assert sum(isinstance(outcome, RequestContext) for outcome in outcomes) == 1


async def test_concurrency() -> None:
    """Requests at a time are free again when one ends."""
    gate = Gate(everyone={"concurrent_requests": 2})
    first = await gate.admit()
    assert await gate.count() == 1
    await gate.end(first, Usage(10, 5))
    assert await gate.count() == 1
    assert gate.refused == ["concurrent_requests"] * 2


@pytest.mark.parametrize(
    ("max_tokens", "limit", "left"),
    [(None, 10_000, 10_000 - 10 - 1000), (None, 50, 50 - 10 - 5), (7, 10_000, 10_000 - 17)],
)
async def test_assumed_output(max_tokens: int | None, limit: int, left: int) -> None:
    """A request without `max_tokens` reserves a part of the limit."""
    gate = Gate(everyone={"tokens_per_minute": limit})
    context = await gate.admit(max_tokens=max_tokens)
    assert (await gate.read(context))["remaining-tokens"] == str(left)


async def test_scopes() -> None:
    """Each scope and model has counters of its own; many keys share those of their project."""
    gate = Gate(
        each_key={"requests_per_minute": 2},
        each_project={"requests_per_minute": 3},
        keys={"key_3": {"requests_per_minute": 1}},
        everyone={"models": {"large": {"requests_per_minute": 1}}},
    )

    async def count(key: str, project: str, model: str = "small") -> int:
        principal = Principal(project, project, "owner", key, "default")
        for number in range(9):
            request = generation_request(prompt=PROMPT, model=served_model(model))
            request.context.principal = principal
            try:
                await gate.admit(request)
            except RateLimitExceeded:
                return number
        return 9

    assert [
        await count("key_1", "p1"),
        await count("key_2", "p1"),
        await count("key_3", "p2"),
        await count("key_4", "p3", "large"),
        await count("key_5", "p4", "large"),
    ] == [2, 1, 1, 1, 0]


async def test_similar_callers() -> None:
    """Callers whose ids look alike once they are joined have limits of their own."""
    gate = Gate(each_key={"requests_per_minute": 1})
    for key, owner in [("a", "b', 'c"), ("a', 'b", "c"), ("x\0y", "z"), ("x", "y\0z")]:
        request = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
        request.context.principal = Principal("p1", "p1", owner, key, "default")
        await gate.admit(request)
        assert request.context.reservation is not None


async def test_waiting() -> None:
    """Engine calls wait for the reservation of their request; a refusal reaches all of them."""
    tables = MemoryTables(is_local=False)
    gate = Gate(tables.table, everyone={"requests_per_minute": 1})  # type: ignore[arg-type]
    requests = [generation_request(prompt=PROMPT, max_tokens=20, model=MODEL) for _ in range(2)]
    outcomes = await asyncio.gather(
        *[gate.admit(request) for request in requests for _ in range(3)], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [RequestContext] * 3 + [RateLimitExceeded] * 3
    assert gate.refused == ["requests"]
    for request in requests:
        await gate.end(request.context, None, engine_calls=0)
    assert await gate.count() == 1


async def test_refusal_of_all_calls() -> None:
    """A refusal reaches every engine call of the request, also those made after it."""
    gate = Gate(everyone={"requests_per_minute": 1})
    await gate.admit()
    request = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    for _ in range(3):
        with pytest.raises(RateLimitExceeded):
            await gate.admit(request)
    assert gate.refused == ["requests"]


async def test_cancellation_while_waiting() -> None:
    """A request that ends while it waits for its reservation leaves nothing behind."""
    tables = MemoryTables(is_local=False)
    gate = Gate(tables.table, everyone={"concurrent_requests": 1})  # type: ignore[arg-type]
    request = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    task = asyncio.create_task(gate.admit(request))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    await gate.end(request.context, None, "client_gone", engine_calls=0)
    await asyncio.wait([task])
    assert await gate.count() == 1


async def test_countdown() -> None:
    """The time until the reset is rounded up to seconds, and exact in the last one."""
    gate = Gate(everyone={"requests_per_minute": 5})
    context = await gate.admit()
    found = []
    for step in (0.0, 0.25, 0.75, 0.25, 17.75, 0.5, 0.25):
        gate.clock.advance(step)
        found.append((await gate.read(context))["reset-requests"])
    assert found == ["20s", "20s", "19s", "19s", "1s", "500ms", "250ms"]


async def test_free_in_batch() -> None:
    """A take gets what has become free in the current batch."""
    gate = Gate(everyone={"tokens_per_minute": 70, "concurrent_requests": 2})
    first, second = await gate.admit(), await gate.admit()
    await gate.end(first, Usage(10, 0))
    third = await gate.admit()
    assert await gate.read(third) == await gate.read(second)
    with pytest.raises(LimitExceeded):
        await gate.admit()


async def test_slot_of_last_window() -> None:
    """A slot that becomes free in a batch is there for a request of the next window."""
    gate = Gate(everyone={"tokens_per_minute": 1000, "concurrent_requests": 1})
    first = await gate.admit()
    gate.clock.advance(60)
    await gate.end(first, Usage(10, 5))
    await gate.admit()


async def test_refusal_after_response() -> None:
    """A refusal shows what is left now, not what an earlier response of the iteration showed."""
    gate = Gate(everyone={"tokens_per_minute": 70})
    first = await gate.admit()
    assert (await gate.read(first))["remaining-tokens"] == "40"
    await gate.admit()
    refused = generation_request(prompt=PROMPT, max_tokens=20, model=MODEL)
    with pytest.raises(LimitExceeded):
        gate.guard.admit(refused)
    assert b"remaining-tokens: 10" in gate.limits.edge.format_headers(refused.context)


async def test_shared_lines() -> None:
    """Responses of one iteration of the event loop have the same headers."""
    gate = Gate(everyone={"requests_per_minute": 1000})
    contexts = [await gate.admit() for _ in range(3)]
    edge = gate.limits.edge
    first = [edge.format_headers(context) for context in contexts]
    contexts.append(await gate.admit())
    assert first == [edge.format_headers(contexts[3])] * 3
    assert (await gate.read(contexts[3]))["remaining-requests"] == "996"


@pytest.mark.parametrize(("seconds", "is_batched"), [(0.1, False), (0.08, True)])
async def test_rate(*, seconds: float, is_batched: bool) -> None:
    """Requests are batched if a batch would have at least three of them."""
    gate = Gate(everyone={"requests_per_day": 1000})
    for _ in range(2 * MANY_REQUESTS):
        gate.clock.advance(seconds)
        await gate.serve(1)
    assert gate.limits.counters.batch.end() is is_batched


async def test_rate_after_excess() -> None:
    """A request that uses more than it has reserved is settled at once, the next ones are not."""
    gate = Gate(everyone={"requests_per_day": 1000, "tokens_per_day": 100_000})
    await gate.serve(MANY_REQUESTS)
    context = await gate.admit()
    gate.clock.advance(60)
    await gate.end(context, Usage(10, 50))
    last = await gate.admit()
    await gate.end(last, Usage(10, 5))
    assert isinstance(last.reservation, PlannedReservation)
    assert last.reservation.plan.entries.ended == 1


async def start_busy_gate(*, concurrent_requests: int) -> Gate:
    """Start a gate that batches requests, with 1,000 requests and 100,000 tokens left."""
    gate = Gate(
        everyone={
            "requests_per_minute": MANY_REQUESTS + 1000,
            "tokens_per_minute": MANY_REQUESTS * 15 + 100_000,
        },
        each_project={"concurrent_requests": concurrent_requests},
    )
    await gate.serve(MANY_REQUESTS)
    return gate


@pytest.mark.parametrize("ends_batches", [True, False])
async def test_burst(*, ends_batches: bool) -> None:
    """Requests that begin together take together; headers show what each of them has taken."""
    gate = await start_busy_gate(concurrent_requests=100)
    remaining = []
    for size in (5, 40, 2, 0, 70):
        contexts = [await gate.admit() for _ in range(size)]
        headers = await gate.read(contexts[0]) if contexts else {}
        remaining.append([headers.get(f"remaining-{kind}") for kind in ("requests", "tokens")])
        for context in contexts:
            await gate.end(context, Usage(10, 5))
        if ends_batches:
            gate.end_batch()
    assert remaining == [
        ["995", "99850"],
        ["955", "98725"],
        ["953", "99265"],
        [None, None],
        ["883", "97195"],
    ]


@pytest.mark.parametrize("batch", [1, 5, 40])
async def test_sequence(batch: int) -> None:
    """Headers are exact for requests one after the other, however many a batch has."""
    gate = Gate(everyone={"requests_per_minute": 1000, "tokens_per_minute": 100_000})
    found = []
    for number in range(60):
        context = await gate.admit()
        headers = await gate.read(context)
        found.append((headers["remaining-requests"], headers["remaining-tokens"]))
        await gate.end(context, Usage(10, 5))
        if number % batch == batch - 1:
            gate.end_batch()
    assert found == [(str(999 - n), str(100_000 - 30 - 15 * n)) for n in range(60)]


async def test_requests_of_a_block() -> None:
    """Requests of a block settle as others do: by real usage, above it, and by nothing."""
    gate = await start_busy_gate(concurrent_requests=1000)
    found = []
    for usage, outcome, calls in [
        (Usage(10, 5), "ok", 1),
        (Usage(10, 50), "ok", 1),
        (None, "client_gone", 1),
        (None, "upstream_error", 1),
        (None, "upstream_error", 0),
    ]:
        for context in [await gate.admit() for _ in range(10)]:
            await gate.end(context, usage, outcome, engine_calls=calls)  # type: ignore[arg-type]
        gate.end_batch()
        last = await gate.admit()
        headers = await gate.read(last)
        found.append((headers["remaining-requests"], headers["remaining-tokens"]))
        await gate.end(last, None, engine_calls=0)
    assert found == [
        ("989", "99820"),
        ("979", "99220"),
        ("969", "99120"),
        ("959", "99120"),
        ("959", "99120"),
    ]


async def test_block_of_last_window() -> None:
    """A block is not used in the next window, and goes back to its own."""
    gate = Gate(everyone={"requests_per_minute": 1000})
    await gate.serve(MANY_REQUESTS)
    last = [await gate.admit() for _ in range(2)][1]
    gate.clock.advance(RESET)
    assert (await gate.read(await gate.admit()))["remaining-requests"] == "999"
    gate.end_batch()
    assert (await gate.read(last))["remaining-requests"] == str(998 - MANY_REQUESTS)


async def test_block_after_lease() -> None:
    """A block is not used after the lease: others may have it by then."""
    tables = MemoryTables()
    gate = Gate(tables.table, clock=tables.clock, everyone={"requests_per_minute": 100_000})  # type: ignore[arg-type]
    await gate.serve(MANY_REQUESTS)
    await gate.admit()
    before = tables.table.exchanges
    await gate.admit()
    assert tables.table.exchanges == before
    tables.advance(LEASE_SECONDS)
    await gate.admit()
    assert tables.table.exchanges == before + 1


async def test_tightest() -> None:
    """Headers change to another limit as soon as less is left of it."""
    gate = Gate(everyone={"tokens_per_minute": 1000, "output_tokens_per_minute": 980})
    found = []
    for length in (1, 100):
        context = await gate.admit(prompt=TokenIds.of([1] * length), max_tokens=1)
        headers = await gate.read(context)
        found.append((headers["limit-tokens"], headers["remaining-tokens"]))
    assert found == [("980", "979"), ("1000", "897")]


async def test_tightest_with_block() -> None:
    """Headers of a caller with a block change to a shared limit as soon as less is left of it."""
    gate = Gate(
        everyone={"tokens_per_day": 10_000},
        keys={key: {"tokens_per_day": 9_000} for key in ("key_1", "key_2")},
    )

    async def admit(key: str, max_tokens: int) -> RequestContext:
        request = generation_request(prompt=PROMPT, max_tokens=max_tokens, model=MODEL)
        request.context.principal = replace(ALICE, key_id=key)
        return await gate.admit(request)

    await admit("key_2", 20)
    for _ in range(MANY_REQUESTS):
        await gate.end(await admit("key_1", 20), Usage(10, 5))
    found = []
    for others in (20, 5000):
        await admit("key_2", others)
        headers = await gate.read(await admit("key_1", 20))
        found.append((headers["limit-tokens"], headers["remaining-tokens"]))
    assert found == [("9000", "8715"), ("10000", "4615")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0124, "12ms"),
        (1, "1s"),
        (59, "59s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (86_401, "24h0m1s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """Durations are written as Go does."""
    assert format_duration(seconds) == text
