"""Measure how long a revoked key still works on two gateways with the same database.

    python -m benchmarks.revocation [--keys 10] [--json]

Keys in PostgreSQL are in constant use on two gateway processes. All are blocked in one moment, and
each is tried four times a second until both gateways refuse it: with Redis, with Redis while the
database is away, and without Redis. The bound of 15 minutes without database and Redis is tested
with a fake clock (tests/unit/auth/test_database_key_store.py).

Exits with 1 if a bound of docs/keys.md is exceeded.
"""

import argparse
import asyncio
import json
import statistics
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from maxgate.auth.database_key_store import MAX_AGE
from maxgate.auth.key_changes import KeyChanges, NoKeyChanges
from maxgate.auth.redis_key_changes import RedisKeyChanges
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.redis import RedisStore
from maxgate.stores.settings import DatabaseSettings, RedisSettings
from tests.fakes.identity_gateways import chat, gateway
from tests.fakes.postgres_server import PostgresServer, start_postgres
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.stored_keys import StoredKeys

WARM_UP: Final = 5.0
INTERVAL: Final = 0.25
REDIS_BOUND: Final = 5.0


@dataclass(frozen=True)
class Revocation:
    """Seconds until both gateways refused keys, and the status of their response."""

    case: str
    status: int
    median: float
    slowest: float
    bound: float

    @property
    def is_right(self) -> bool:
        """Whether the bound is kept."""
        return self.slowest <= self.bound


async def wait_for_refusal(urls: list[str], key: str) -> tuple[int, float]:
    """Return the status with which a key is refused, and when the last gateway did so."""
    while True:
        statuses = [await chat(url, key) for url in urls]
        if 200 not in statuses:
            return max(statuses), monotonic()
        await asyncio.sleep(INTERVAL)


async def measure(
    case: str,
    postgres: PostgresServer,
    redis: RedisServer | None,
    count: int,
    *,
    is_away: bool = False,
) -> Revocation:
    """Revoke this number of keys at once."""
    prefix = case.replace(" ", "_").replace(",", "")
    async with AsyncExitStack() as stack:
        store = open_identity_store(DatabaseSettings(url=postgres.url), Path())
        stack.push_async_callback(store.aclose)
        stored = StoredKeys(store)
        changes: KeyChanges = NoKeyChanges()
        if redis is not None:
            changes = RedisKeyChanges(RedisStore(RedisSettings(url=redis.url)))
        stack.push_async_callback(changes.aclose)
        names = [f"{prefix}_{number}" for number in range(count)]
        keys = [await stored.add(name) for name in names]
        redis_url = None if redis is None else redis.url
        gateways = [
            await stack.enter_async_context(gateway(postgres.url, redis_url)) for _ in range(2)
        ]
        urls = [one.url for one in gateways]
        for key in keys:  # read at different times
            assert [await chat(url, key) for url in urls] == [200, 200]
            await asyncio.sleep(WARM_UP / count)
        for name in names:
            await stored.change(name, blocked=True)
        if is_away:
            postgres.stop()
        revoked_at = monotonic()
        await changes.publish(names)
        refusals = await asyncio.gather(*(wait_for_refusal(urls, key) for key in keys))
    if is_away:
        postgres.start()
    seconds = [ended_at - revoked_at for _, ended_at in refusals]
    bound = MAX_AGE if redis is None else REDIS_BOUND
    status = max(status for status, _ in refusals)
    return Revocation(case, status, statistics.median(seconds), max(seconds), bound)


async def measure_all(postgres: PostgresServer, redis: RedisServer, count: int) -> list[Revocation]:
    """Measure all cases one after the other."""
    return [
        await measure("Redis", postgres, redis, count),
        await measure("Redis, database away", postgres, redis, count, is_away=True),
        await measure("no Redis", postgres, None, count),
    ]


def format_table(results: list[Revocation]) -> str:
    """Format the results as a Markdown table."""
    lines = ["| case | response | median | slowest | bound |", "|---|--:|--:|--:|--:|"]
    for r in results:
        times = [f"{value:.1f} s" for value in (r.median, r.slowest)]
        lines.append(f"| {r.case} | {r.status} | {' | '.join(times)} | {r.bound:.0f} s |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, default=10, help="number of keys (default: 10)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    with start_postgres() as postgres, start_redis() as redis:
        upgrade_database(DatabaseSettings(url=postgres.url), Path())
        results = asyncio.run(measure_all(postgres, redis, options.keys))
    if options.json:
        print(json.dumps([asdict(result) for result in results], indent=2))
    else:
        print(format_table(results))
    return 0 if all(result.is_right for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
