"""Tenants that keep a number of requests in progress, through one or several gateways."""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from benchmarks.admission.clients import Clients, Response
from benchmarks.admission.stack import run_subject, start_maxgate
from benchmarks.gateway.gateways import MAXGATE, StartOptions
from benchmarks.gateway.http_client import StandIn, Target
from tests.fakes.redis_server import start_redis

PATIENCE: Final = 60.0
SETUPS: Final = ("one worker", "two workers", "two gateways")
"""The last one shares slots by Redis."""


@dataclass(frozen=True)
class Tenant:
    """A caller with this Authorization header and number of parallel clients.

    Each client sends its next request after the response to the last one and a pause, of `pause`
    seconds on average. A refused client waits for the time in Retry-After.
    """

    name: str
    clients: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    pause: float = 0.0


async def send_all(
    targets: Sequence[Target], tenants: Sequence[Tenant], seconds: float, warm_up: float
) -> dict[str, list[Response]]:
    """Return the responses and refusals of each tenant that ended after the warm-up."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    found: dict[str, list[Response]] = {tenant.name: [] for tenant in tenants}

    async def run(tenant: Tenant, clients: Clients, pauses: random.Random) -> None:
        end = began + warm_up + seconds
        while loop.time() < end:
            response = await clients.send()
            ended_at = loop.time() - began
            if warm_up <= ended_at < warm_up + seconds:
                found[tenant.name].append(replace(response, ended_at=ended_at))
            pause = pauses.uniform(0, 2 * tenant.pause) if tenant.pause else 0.0
            await asyncio.sleep(min(max(response.retry_after or 0.0, pause), end - loop.time()))
        clients.close()
        await asyncio.sleep(0)  # until the connections are closed

    async with asyncio.TaskGroup() as tasks:
        for tenant in tenants:
            headers = {"authorization": f"Bearer {tenant.name}"}
            for number in range(tenant.clients):
                port = targets[number % len(targets)].port
                clients = Clients(Target(port, headers), tenant.fields, PATIENCE)
                tasks.create_task(run(tenant, clients, random.Random(number)))
    return found


@contextmanager
def run_gateways(setup: str, engine: StandIn, core: int, **config: Any) -> Iterator[list[Target]]:
    """Run the gateways of a setup on a core; yields their targets."""
    with ExitStack() as stack:
        flags = ["--workers", "2"] if setup == "two workers" else []
        count = 2 if setup == "two gateways" else 1
        if count > 1:
            config["redis"] = {"url": stack.enter_context(start_redis()).url}

        def start(options: StartOptions) -> list[str]:
            return start_maxgate(options, *flags, **config)

        gateways = [
            replace(MAXGATE, name=f"maxgate-{number}", command=start) for number in range(count)
        ]
        yield [stack.enter_context(run_subject(g, engine, core)) for g in gateways]


def count_weighted_tokens(responses: Sequence[Response]) -> int:
    """Return the prompt tokens plus twice the generated tokens of complete responses."""
    return sum(response.weighted_tokens for response in responses)
