"""Play the failures one after the other, each with a gateway of its own."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import httpx

from maxgate.drill.client import count_labels
from maxgate.drill.engine import Behaviour, Meter, ScriptedEngine
from maxgate.drill.engine_failures import ENGINE_FAILURES
from maxgate.drill.failures import Failure, Stage, find_breaches
from maxgate.drill.gateway_failures import GATEWAY_FAILURES
from maxgate.drill.scratch import DrillFailed, Scratch, run_gateway

FAILURES: Final[Sequence[Failure]] = (*ENGINE_FAILURES, *GATEWAY_FAILURES)
_FAILURE_TIMEOUT: Final = 30.0
_START_TIMEOUT: Final = 60.0

Verdict = Literal["kept", "broken", "failed", "skipped"]
"""Whether responses kept to the policy; `failed`: the failure could not be played."""


@dataclass(frozen=True, slots=True)
class Report:
    """The outcomes of one failure for clients, beside the policy.

    `responses` counts requests by status and error code. `cut_silently` are streams that ended
    without [DONE] and without an error. `breaches` say how the policy was broken, or why the
    failure was skipped.
    """

    name: str
    failure: str
    verdict: Verdict
    policy: str = ""
    requests: int = 0
    responses: dict[str, int] | None = None
    retry_after: list[str] | None = None
    longest_wait: float = 0.0
    cut_silently: int = 0
    breaches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Observer:
    """Called when a failure begins and when it is over."""

    on_start: Callable[[Failure], None] = lambda _: None
    on_end: Callable[[Report], None] = lambda _: None


async def run_drill(
    scratch: Scratch, failures: Sequence[Failure], *, time_limit: float, observer: Observer
) -> list[Report]:
    """Play failures until all have been played, or the time is up; those left are skipped.

    The next gateway starts while failures are played.
    """
    deadline = time.monotonic() + time_limit
    reports = [
        Report(failure.name, failure.text, "skipped", breaches=(obstacle,))
        for failure in failures
        if (obstacle := failure.find_obstacle(scratch))
    ]
    for report in reports:
        observer.on_end(report)
    groups = _group([one for one in failures if not one.find_obstacle(scratch)])
    starts = [asyncio.Event() for _ in groups]
    async with asyncio.TaskGroup() as tasks:
        playing: list[asyncio.Task[list[Report]]] = []
        for number, start in enumerate(starts):
            while len(playing) < min(number + 2, len(groups)):
                at = len(playing)
                group = _play_group(scratch, groups[at], starts[at], deadline, observer)
                playing.append(tasks.create_task(group))
            start.set()
            reports += await playing[number]
    order = [failure.name for failure in failures]
    return sorted(reports, key=lambda report: order.index(report.name))


def _group(failures: Sequence[Failure]) -> list[list[Failure]]:
    """Group failures that leave a gateway as it was, and can be played one after the other."""
    harmless = [one for one in failures if one.is_harmless]
    groups = [sorted(harmless, key=lambda one: not one.with_all_workers)]
    groups += [[one] for one in failures if not one.is_harmless]
    return [group for group in groups if group]


async def _play_group(
    scratch: Scratch,
    group: Sequence[Failure],
    start: asyncio.Event,
    deadline: float,
    observer: Observer,
) -> list[Report]:
    """Bring a gateway up, wait for the start, and play the failures."""
    reports: list[Report] = []
    try:
        async with _open_stage(scratch, group[0], deadline) as stage:
            await start.wait()
            for failure in group:
                observer.on_start(failure)
                reports.append(await _play(stage, failure, deadline))
                observer.on_end(reports[-1])
    except DrillFailed as error:
        verdict: Verdict = "failed"
        reason = str(error)
        if time.monotonic() >= deadline:
            verdict, reason = "skipped", "no time was left; raise --time-limit"
        for failure in group[len(reports) :]:
            reports.append(Report(failure.name, failure.text, verdict, breaches=(reason,)))
            observer.on_end(reports[-1])
    return reports


async def _play(stage: Stage, failure: Failure, deadline: float) -> Report:
    if time.monotonic() >= deadline:
        raise DrillFailed("the time limit was reached")
    for engine in stage.engines:
        engine.behaviour = Behaviour()
    stage.meter.most_running = 0
    try:
        async with asyncio.timeout(_FAILURE_TIMEOUT):
            outcome = await failure.play(stage)
    except (httpx.HTTPError, OSError) as error:  # TimeoutError is one
        reason = str(error) or "it was not over in time"
        return Report(failure.name, failure.text, "broken", breaches=(reason,))
    except Exception as error:  # noqa: BLE001  # the other failures are to be played
        reason = f"the drill itself failed: {type(error).__name__}: {error}"
        return Report(failure.name, failure.text, "failed", breaches=(reason,))
    breaches, results = find_breaches(outcome), outcome.results
    return Report(
        failure.name,
        failure.text,
        "broken" if breaches else "kept",
        outcome.policy.text,
        len(results),
        count_labels(results),
        sorted({one.retry_after for one in results if one.retry_after}, key=int),
        round(max((one.seconds for one in results), default=0.0), 2),
        sum(one.ending == "silent" for one in results),
        tuple(breaches),
    )


@asynccontextmanager
async def _open_stage(scratch: Scratch, failure: Failure, deadline: float) -> AsyncIterator[Stage]:
    """Run engines and a gateway; raises DrillFailed if it is not ready in time."""
    async with AsyncExitStack() as stack:
        engines, meter = [], Meter()
        for _ in range(scratch.engine_count):
            card = scratch.card
            engine = ScriptedEngine(card.served_model_name, card.context_length, meter)
            await engine.start()
            stack.push_async_callback(engine.close)
            engines.append(engine)
        urls = [engine.url for engine in engines]
        settings = dict(failure.settings)
        if not failure.with_all_workers:
            settings["server"] = {"workers": 1, **settings.get("server", {})}
        gateway = await stack.enter_async_context(
            run_gateway(
                scratch,
                failure.name,
                urls,
                settings,
                start_timeout=min(_START_TIMEOUT, deadline - time.monotonic()),
            )
        )
        yield Stage(gateway, engines, scratch, meter)
