"""The gateway, its stores and its clients fail."""

import asyncio
import os
import signal
import sqlite3
import time
from contextlib import closing
from typing import Final

from maxgate.auth.api_key import generate_key
from maxgate.drill.client import Result
from maxgate.drill.engine import Behaviour
from maxgate.drill.failures import Failure, Outcome, Policy, Stage
from maxgate.drill.scratch import Scratch
from maxgate.stores.database import FILE_NAME

_OK: Final = "200"
_BROKEN: Final = "connection cut"
_LEDGER_BYTES: Final = 64 * 1024
"""Smallest size of the ledger; some hundred requests fill it."""
_FILL_SECONDS: Final = 12
_STOPPED: Final = ("503 server_shutting_down", "no connection", _BROKEN)


async def kill_worker(stage: Stage) -> Outcome:
    """A worker is killed under streams; its own are cut, and new requests are served."""
    for engine in stage.engines:
        engine.behaviour = Behaviour(gap=0.2)
    sending = asyncio.create_task(stage.gateway.client.chat_many(6))
    await asyncio.sleep(0.6)
    workers = stage.gateway.list_workers()
    os.kill(workers[0], signal.SIGKILL)
    cut = await sending
    after: list[Result] = []
    async with asyncio.timeout(12):
        while not after or after[-1].ending != "complete":
            after.append(await stage.gateway.client.chat())
            await asyncio.sleep(0.1)
    text = "only its own streams are cut, visibly; the next worker serves within seconds"
    allowed = {_OK, _BROKEN, "no connection"}
    complete = 1 if len(workers) == 1 else 2
    return Outcome([*cut, *after], Policy(text, allowed, complete=complete, max_wait=12))


async def terminate(stage: Stage) -> Outcome:
    """SIGTERM under streams, and new requests afterwards."""
    for engine in stage.engines:
        engine.behaviour = Behaviour(gap=0.25)
    sending = asyncio.create_task(stage.gateway.client.chat_many(4))
    await asyncio.sleep(0.6)
    stage.gateway.process.terminate()
    await asyncio.sleep(0.3)
    late = await stage.gateway.client.chat_many(2)
    running = await sending
    timeout = stage.scratch.settings.server.shutdown_timeout
    faults = []
    try:
        async with asyncio.timeout(timeout + 8):
            code = await stage.gateway.process.wait()
    except TimeoutError:
        faults.append(f"the gateway still runs {timeout + 8} s after SIGTERM")
    else:
        faults += [f"its exit code is {code}"] if code else []
    is_long_enough = timeout >= 3
    text = "running streams end whole, new requests get 503 or no connection"
    allowed = {_OK, *_STOPPED}
    if not is_long_enough:
        text = "streams longer than server.shutdown_timeout end with an error event"
        allowed.add("200 with error event server_shutting_down")
    policy = Policy(text, allowed, complete=4 if is_long_enough else 0)
    return Outcome([*running, *late], policy, faults)


async def lose_database(stage: Stage) -> Outcome:
    """PostgreSQL is away: for a key that has been used, and for one that has not."""
    client = stage.gateway.client
    known = await client.chat_many(1)
    await stage.gateway.relays["database"].cut()
    known += await client.chat_many(6)
    unknown = [await client.chat(key=generate_key()) for _ in range(2)]
    faults = [f"a known key got {one.label}" for one in known if one.ending != "complete"]
    text = "known keys are served, unknown ones get 503 (and never 401)"
    allowed = {_OK, "503 authentication_unavailable"}
    return Outcome([*known, *unknown], Policy(text, allowed, complete=7), faults)


async def lose_redis(stage: Stage) -> Outcome:
    """Redis is away; each worker goes on with its own share."""
    client = stage.gateway.client
    results = await client.chat_many(2)
    await stage.gateway.relays["redis"].cut()
    results += await client.chat_many(8, interval=0.1)
    return Outcome(results, Policy("requests do not notice", {_OK}, complete=10, max_wait=3))


async def fill_ledger(stage: Stage) -> Outcome:
    """The ledger reaches its size, because nothing can be moved to the database."""
    results: list[Result] = []
    path = stage.gateway.state_dir / FILE_NAME
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")  # no other process can write meanwhile
        deadline = time.monotonic() + _FILL_SECONDS
        while time.monotonic() < deadline and not any(one.ending == "error" for one in results):
            results += await stage.gateway.client.chat_many(16)
        connection.execute("ROLLBACK")
    if stage.scratch.settings.usage.on_full == "uncounted":
        text = "requests are served, and not recorded (usage.on_full: uncounted)"
        return Outcome(results, Policy(text, {_OK}, complete=len(results)))
    text = "503 before an engine is called (usage.on_full: refuse)"
    return Outcome(results, Policy(text, {_OK, "503 usage_unavailable"}, complete=1))


async def use_bad_key(stage: Stage) -> Outcome:
    """A key that does not exist, one without the right form, and none."""
    client = stage.gateway.client
    results = [await client.chat(key=key) for key in (generate_key(), "secret", "")]
    return Outcome(results, Policy("401", {"401 invalid_api_key"}, max_wait=3))


async def send_large_body(stage: Stage) -> Outcome:
    """A body above server.max_body_bytes."""
    size = stage.scratch.settings.server.max_body_bytes
    results = [await stage.gateway.client.chat(padding=size + 1) for _ in range(2)]
    return Outcome(results, Policy("413", {"413 request_too_large"}))


async def disconnect_clients(stage: Stage) -> Outcome:
    """Clients close their connections in the middle; engines have to notice, and slots be free."""
    for engine in stage.engines:
        engine.behaviour = Behaviour(gap=0.5, tokens=20)
    client = stage.gateway.client
    await asyncio.gather(*[client.disconnect(0.7) for _ in range(stage.slots)])
    grace = stage.scratch.settings.upstream.cancel_grace + 2
    deadline = time.monotonic() + grace
    while (left := stage.meter.running) and time.monotonic() < deadline:  # noqa: ASYNC110  # a poll
        await asyncio.sleep(0.05)
    faults = [f"engines still work on {left} requests after {grace:g} s"] if left else []
    for engine in stage.engines:
        engine.behaviour = Behaviour()
    results = await client.chat_many(stage.slots)
    text = "engines stop at once, and the next requests get the slots"
    return Outcome(results, Policy(text, {_OK}, complete=stage.slots), faults)


def _needs_keys(scratch: Scratch) -> str:
    return "" if scratch.key else "auth.mode asks for no keys"


def _needs_database(scratch: Scratch) -> str:
    if "database" in scratch.stores:
        return "" if scratch.key else "auth.mode asks for no keys"
    return "no scratch PostgreSQL; name one with --database"


def _needs_redis(scratch: Scratch) -> str:
    return "" if "redis" in scratch.stores else "no scratch Redis; name one with --redis"


def _needs_ledger(scratch: Scratch) -> str:
    if "database" in scratch.stores:
        return "it needs the scratch SQLite; leave --database out"
    return "" if scratch.settings.usage.enabled else "usage.enabled is false"


GATEWAY_FAILURES: Final = (
    Failure("worker-killed", "a worker is killed (kill -9)", kill_worker, with_all_workers=True),
    Failure("sigterm", "the gateway gets SIGTERM under streams", terminate),
    Failure("database-away", "PostgreSQL is away", lose_database, find_obstacle=_needs_database),
    Failure("redis-away", "Redis is away", lose_redis, find_obstacle=_needs_redis),
    Failure(
        "ledger-full",
        "the disk of the ledger is full",
        fill_ledger,
        {"usage": {"max_spool_bytes": _LEDGER_BYTES}},
        _needs_ledger,
    ),
    Failure("bad-key", "keys that are wrong", use_bad_key, {}, _needs_keys, is_harmless=True),
    Failure("large-body", "a body that is too large", send_large_body, is_harmless=True),
    Failure("disconnect", "clients disconnect under streams", disconnect_clients, is_harmless=True),
)
