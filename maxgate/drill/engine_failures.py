"""Engines that refuse, fail, hang, break off, are slow, overloaded, restarted or gone."""

import asyncio
from typing import Final

from maxgate.admission.capacity import add_spare
from maxgate.drill.engine import Behaviour
from maxgate.drill.failures import Failure, Outcome, Policy, Stage

_OK: Final = "200"
_UNAVAILABLE: Final = "503 upstream_unavailable"
_ENGINE_ERROR: Final = "502 upstream_error"
_TIMEOUT: Final = "504 upstream_timeout"
_BROKEN_OFF: Final = "200 with error event upstream_error"
_LOST: Final = "200 with error event upstream_unavailable"
_STALLED: Final = "200 with error event upstream_timeout"
_FULL: Final = ("503 server_overloaded", "503 queue_timeout", "429 tenant_queue_full")
_PACE: Final = 0.25
"""Seconds between requests where retries have a budget per second."""


async def refuse(stage: Stage) -> Outcome:
    """One engine refuses connections."""
    await stage.engines[0].stop()
    results = await stage.gateway.client.chat_many(8, interval=0.05)
    if stage.is_alone:
        text = "503 with Retry-After until the engine is back"
        return Outcome(results, Policy(text, {_UNAVAILABLE}, max_wait=8))
    return Outcome(results, Policy("requests move to the other engine", {_OK}, complete=8))


async def respond_500(stage: Stage) -> Outcome:
    """One engine responds to everything with 500."""
    stage.engines[0].behaviour = Behaviour(status=500)
    results = await stage.gateway.client.chat_many(8, interval=_PACE)
    if stage.is_alone:
        return Outcome(results, Policy("502", {_ENGINE_ERROR, _UNAVAILABLE}))
    return Outcome(results, Policy("requests move to the other engine", {_OK}, complete=8))


async def hang(stage: Stage) -> Outcome:
    """One engine accepts requests and never sends a token."""
    stage.engines[0].behaviour = Behaviour(hangs=True)
    # One that waits for a slot would wait for two timeouts.
    results = await stage.gateway.client.chat_many(min(6, stage.slots))
    timeout = stage.scratch.settings.upstream.first_token_timeout
    text = f"504 after upstream.first_token_timeout, {timeout:g} s here"
    if stage.is_alone:
        return Outcome(results, Policy(text, {_TIMEOUT}, max_wait=timeout + 3))
    text += ", at one engine; the other one serves its part"
    return Outcome(results, Policy(text, {_OK, _TIMEOUT}, complete=1, max_wait=timeout + 3))


async def cut_streams(stage: Stage) -> Outcome:
    """Streams break off after three tokens; the engines can continue them."""
    for engine in stage.engines:
        engine.behaviour = Behaviour(cut_after=3)
    results = await stage.gateway.client.chat_many(4)
    if _can_continue(stage):
        return Outcome(results, Policy("streams go on, unnoticed", {_OK}, complete=4))
    text = "streams end with an error event"
    return Outcome(results, Policy(text, {_BROKEN_OFF, _LOST}))


def _can_continue(stage: Stage) -> bool:
    """Whether streams go on after a failure: the gateway needs the ids of their prompts."""
    has_ids = stage.scratch.card.prompt != "engine"
    return has_ids and stage.scratch.settings.continuation.attempts > 0


async def slow_down(stage: Stage) -> Outcome:
    """Engines need 0.4 s for each token."""
    for engine in stage.engines:
        engine.behaviour = Behaviour(first=0.5, gap=0.4, tokens=5)
    results = await stage.gateway.client.chat_many(4)
    return Outcome(results, Policy("clients wait", {_OK}, complete=4))


async def overload_twice(stage: Stage) -> Outcome:
    """Twice as many requests at once as there are slots."""
    return await _overload(stage, 2)


async def overload_tenfold(stage: Stage) -> Outcome:
    """Ten times as many requests at once as there are slots."""
    return await _overload(stage, 10)


async def _overload(stage: Stage, factor: int) -> Outcome:
    for engine in stage.engines:
        engine.behaviour = Behaviour(first=0.1, gap=0.02)
    results = await stage.gateway.client.chat_many(factor * stage.slots)
    admission = stage.scratch.settings.admission
    if not admission.enabled:
        text = "all at the engines, because admission.enabled is false"
        return Outcome(results, Policy(text, {_OK}, complete=len(results), max_wait=20))
    most, room = stage.meter.most_running, add_spare(stage.slots)
    faults = []
    if most > room:
        faults.append(f"the engines worked on {most} requests at once, {room} are allowed")
    queue = 4 * stage.slots if admission.max_queue is None else admission.max_queue
    text = f"{room} at the engines, {queue} waiting; 503 or 429 with Retry-After beyond"
    complete = min(room, len(results))
    policy = Policy(text, {_OK, *_FULL}, complete=complete, max_wait=20)
    return Outcome(results, policy, faults)


async def restart(stage: Stage) -> Outcome:
    """An engine crashes under streams, and is back after a second."""
    for engine in stage.engines:
        engine.behaviour = Behaviour(gap=0.25)
    # One that waits for a slot cannot continue: it gets 503 when the engine goes.
    count = min(6, stage.slots)
    sending = asyncio.create_task(stage.gateway.client.chat_many(count))
    await asyncio.sleep(0.7)
    await stage.engines[0].stop()
    await asyncio.sleep(1.0)
    await stage.engines[0].start()
    results = await sending
    window = stage.scratch.settings.continuation.restart_window
    if _can_continue(stage) and (not stage.is_alone or window > 3):
        text = "streams go on, unnoticed"
        return Outcome(results, Policy(text, {_OK}, complete=count, max_wait=12))
    text = "streams of this engine end with an error event"
    return Outcome(results, Policy(text, {_OK, _BROKEN_OFF, _LOST, _STALLED}, max_wait=12))


async def lose_all(stage: Stage) -> Outcome:
    """All engines are down, then back: the first requests afterwards count, too."""
    for engine in stage.engines:
        await engine.stop()
    client = stage.gateway.client
    down = await client.chat_many(6)
    for engine in stage.engines:
        await engine.start()
    async with asyncio.timeout(5):
        while (await client.get("/health")).status_code != 200:  # noqa: ASYNC110  # over HTTP
            await asyncio.sleep(0.1)
    back = await client.chat_many(4)
    text = "503 with Retry-After, and service again once an engine is back"
    return Outcome([*down, *back], Policy(text, {_UNAVAILABLE, _OK}, complete=4, max_wait=8))


ENGINE_FAILURES: Final = (
    Failure("engine-refuses", "an engine refuses connections", refuse),
    Failure("engine-500", "an engine responds with 500", respond_500),
    Failure("engine-hangs", "an engine hangs before the first token", hang),
    Failure("stream-cut", "streams break off at the engine", cut_streams),
    Failure("engine-slow", "engines are slow", slow_down, is_harmless=True),
    Failure("overload-2", "twice as many requests as slots", overload_twice, is_harmless=True),
    Failure(
        "overload-10",
        "ten times as many requests as slots",
        overload_tenfold,
        is_harmless=True,
        with_all_workers=True,
    ),
    Failure("engine-restart", "an engine restarts under streams", restart),
    Failure("engines-down", "all engines are down", lose_all),
)
