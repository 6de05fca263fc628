"""Limits as a guard, and as what the HTTP edge checks before it reads a body."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from typing_extensions import override

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk
from maxgate.generation.context import Principal, RequestContext
from maxgate.generation.guard import Guard, Lease
from maxgate.generation.request import GenerationRequest
from maxgate.limits.errors import build_refusal, refuse_tokens
from maxgate.limits.limit import EdgeLimits
from maxgate.limits.planner import Plan, Planner, Request, count_prompt_tokens
from maxgate.limits.reservation import BlockReservation, PlannedReservation, Reservation


class LimitGuard(Guard):
    """Reserves what a client request can use at its first engine call, then asks `inner`.

    Raises LimitExceeded, and TooManyTokens for embeddings. The edge settles the reservation.
    """

    def __init__(self, planner: Planner, inner: Guard) -> None:
        self._planner = planner
        self._inner = inner

    @override
    def admit(self, request: Request) -> AbstractAsyncContextManager[Lease]:
        context = request.context
        if context.reservation is not None:
            return self._admit_reserved(request)
        planner = self._planner
        caller = planner.callers.get(context.principal.caller)
        plan = None if caller is None else caller.by_model.get(request.model.name)
        if plan is not None and (entries := plan.entries).ready:
            tokens, output = planner.estimate(plan, request)
            if entries.take_ready(tokens + output, planner.monotonic()):
                reservation = context.reservation = BlockReservation()
                reservation.plan, reservation.tokens, reservation.output = plan, tokens, output
                return self._inner.admit(request)
        return self._take(request, plan)

    def _take(self, request: Request, plan: Plan | None) -> AbstractAsyncContextManager[Lease]:
        """Take amounts from all counters, given the plan of the last request to the model."""
        planner, context = self._planner, request.context
        if planner.is_empty:
            return self._inner.admit(request)
        now = planner.wall()
        if plan is None or not plan.starts_at <= now < plan.ends_at:
            plan = planner.find(context.principal, request.model.name, now)
            if plan is None:
                return self._inner.admit(request)
        amounts = planner.build_amounts(plan, request, *planner.estimate(plan, request), now)
        reservation = context.reservation = Reservation()
        reservation.plan, reservation.amounts, reservation.at = plan, amounts, now
        reservation.pending = reservation.error = None
        if planner.counters.take_room(plan.entries, amounts):
            return self._inner.admit(request)
        reservation.take()
        return self._admit_reserved(request)

    def _admit_reserved(self, request: Request) -> AbstractAsyncContextManager[Lease]:
        """Admit an engine call if the amounts of its request are taken, or once they are."""
        reservation = request.context.reservation
        if isinstance(reservation, Reservation):
            if reservation.error is not None:
                raise reservation.error
            if reservation.pending is not None:
                return _Waiting(reservation, request, self._inner)
        return self._inner.admit(request)


class _Waiting(AbstractAsyncContextManager[Lease]):
    """Waits for the reservation, then for the inner guard."""

    def __init__(self, reservation: Reservation, request: Request, inner: Guard) -> None:
        self._reservation = reservation
        self._request = request
        self._inner = inner

    @override
    async def __aenter__(self) -> Lease:
        if (error := await self._reservation.wait()) is not None:
            raise error
        self._admission = self._inner.admit(self._request)
        return await self._admission.__aenter__()

    @override
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._admission.__aexit__(kind, error, traceback)


class RequestSizeLayer:
    """Clamps the output of requests to the limit of tokens per request.

    Raises TooManyTokens if the prompt is too long, or the request asks for more explicitly.
    """

    def __init__(self, inner: Backend, planner: Planner) -> None:
        self._inner = inner
        self._planner = planner

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """Stream from the inner backend."""
        planner = self._planner
        if planner.bounds_requests:
            plan = planner.find(request.context.principal, request.model.name, planner.wall())
            if plan is not None and plan.max_tokens is not None:
                request = clamp(request, plan.max_tokens)
        return self._inner.stream(request)


class LimitEdge(EdgeLimits):
    """Refuses requests whose limits are known to be exhausted, and describes the limits."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner

    @override
    def check(self, principal: Principal) -> None:
        planner = self._planner
        caller = planner.callers.get(principal.caller)
        if caller is None or caller.open_version != planner.exchanges.version:
            self._check(principal)

    def _check(self, principal: Principal) -> None:
        if self._planner.is_empty:
            return
        planner, is_open = self._planner, True
        now = planner.wall()
        plan = planner.find(principal, "", now)
        if plan is None:
            return
        for counter in plan.checked:
            if counter.room > 0 or counter.remaining > 0:
                continue
            is_open = False  # the next request looks again
            if planner.counters.knows_exhausted(counter):
                limit = counter.limit
                planner.count(limit)
                raise build_refusal(limit, requested=1, resets_at=counter.ends_at, now=now)
        if is_open:
            planner.callers[principal.caller].open_version = planner.exchanges.version

    @override
    def format_headers(self, context: RequestContext) -> bytes:
        planner, reservation = self._planner, context.reservation
        if isinstance(reservation, PlannedReservation):
            headers = reservation.plan.headers
            if headers.lines is not None:
                headers.uses += 1
                return headers.lines
            return headers.format(planner.wall(), planner.exchanges.version)
        if planner.is_empty:
            return b""
        now = planner.wall()
        plan = planner.find(context.principal, context.model or "", now)
        return b"" if plan is None else plan.headers.format(now, planner.exchanges.version)


def clamp(request: GenerationRequest, max_tokens: int) -> GenerationRequest:
    """Limit the output, so that all choices together use at most `max_tokens`."""
    prompt, choices = count_prompt_tokens(request), request.context.choices
    rest = max_tokens // choices - prompt
    asked = request.sampling.max_tokens
    if rest < (1 if asked is None else min(asked, 1)):
        raise refuse_tokens(f"the prompt has {prompt} tokens", max_tokens, choices, "messages")
    if asked is not None:
        if asked > rest:
            text = f"'max_tokens' is {asked}, and the prompt has {prompt} tokens"
            raise refuse_tokens(text, max_tokens, choices, "max_tokens")
        return request
    default = request.model.sampling.max_tokens
    rest = min(rest, request.model.context_length - prompt, *([] if default is None else [default]))
    return request._replace(sampling=request.sampling._replace(max_tokens=max(rest, 1)))
