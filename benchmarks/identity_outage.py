"""Show that chats with known keys survive outages of PostgreSQL and Redis.

    python -m benchmarks.identity_outage [--seconds 120] [--json]

Real servers are killed, or frozen so that they accept connections and do not reply, while 8
connections send chats with 20 keys to a gateway process, about 100 a second in all. A key that is
first used during the outage of the database is tried every 0.1 s: it gets 503 until the database
is there again, and `recovery` is the time from then until its first success.

Exits with 1 if a chat with a known key fails or takes more than a second.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from maxgate.auth.api_key import generate_key
from maxgate.stores.identity_store import open_identity_store
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.fakes.identity_gateways import Load, chat, gateway, under_load
from tests.fakes.postgres_server import PostgresServer, start_postgres
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.stored_keys import StoredKeys

KEYS: Final = 20
CONNECTIONS: Final = 8
PAUSE: Final = 0.07
MAX_SECONDS: Final = 1.0
"""The longest that a chat may take; the engine is a stand-in that responds at once."""
UNDISTURBED_SECONDS: Final = 10


@dataclass(frozen=True)
class Phase:
    """Chats with known keys in a phase; times are in milliseconds, recovery in seconds."""

    name: str
    seconds: float
    chats: int
    failed: int
    median: float
    p99: float
    slowest: float
    unknown_keys: str
    recovery: float | None = None

    @property
    def is_right(self) -> bool:
        """Whether no chat failed or was slow."""
        return self.failed == 0 and self.slowest <= MAX_SECONDS * 1000


def summarize(
    name: str, seconds: float, load: Load, unknown_keys: str, recovery: float | None = None
) -> Phase:
    """Return what has been counted since the last phase, and count from zero."""
    milliseconds = sorted(duration * 1000 for duration in load.durations)
    chats, failed = len(milliseconds), load.statuses.total() - load.statuses[200]
    p99 = milliseconds[int(chats * 0.99)]
    median = statistics.median(milliseconds)
    load.restart()
    return Phase(
        name, seconds, chats, failed, median, p99, milliseconds[-1], unknown_keys, recovery
    )


async def undergo(
    name: str,
    end: Callable[[], None],
    restore: Callable[[], None],
    load: Load,
    new_key: str,
    seconds: float,
) -> Phase:
    """Have an outage of this length, and wait until a new key is served."""
    end()
    began = monotonic()
    unknown = set[int]()
    while monotonic() - began < seconds:
        unknown.add(await chat(load.url, generate_key()))
        await asyncio.sleep(1)
    lasted = monotonic() - began
    await asyncio.to_thread(restore)
    restored = monotonic()
    while await chat(load.url, new_key) != 200:  # noqa: ASYNC110  # another process
        await asyncio.sleep(0.1)
    recovery = monotonic() - restored
    await asyncio.sleep(UNDISTURBED_SECONDS)
    return summarize(name, lasted, load, ", ".join(map(str, sorted(unknown))), recovery)


async def measure(postgres: PostgresServer, redis: RedisServer, seconds: float) -> list[Phase]:
    """Run all outages one after the other."""
    store = open_identity_store(DatabaseSettings(url=postgres.url), Path())
    stored = StoredKeys(store)
    keys = [await stored.add(f"key_{number}") for number in range(KEYS)]
    new = [await stored.add(f"key_new_{number}") for number in range(3)]
    await store.aclose()
    phases = []
    async with (
        gateway(postgres.url, redis.url) as server,
        under_load(server.url, keys, connections=CONNECTIONS, pause=PAUSE) as load,
    ):
        await asyncio.sleep(UNDISTURBED_SECONDS)
        unknown = await chat(server.url, generate_key())
        phases.append(summarize("none", UNDISTURBED_SECONDS, load, str(unknown)))
        for (name, end, restore), key in zip(
            [
                ("PostgreSQL killed", postgres.stop, postgres.start),
                ("PostgreSQL frozen", postgres.pause, postgres.resume),
                ("Redis killed", redis.stop, redis.start),
            ],
            new,
            strict=True,
        ):
            phases.append(await undergo(name, end, restore, load, key, seconds))
            print(f"{name}: {phases[-1].failed} failed", file=sys.stderr)
    return phases


def format_table(phases: list[Phase]) -> str:
    """Format the phases as a Markdown table."""
    lines = [
        "| outage | for | chats | failed | median | p99 | slowest | unknown keys | recovery |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for p in phases:
        recovery = "" if p.recovery is None else f"{p.recovery:.1f} s"
        times = [f"{value:.0f} ms" for value in (p.median, p.p99, p.slowest)]
        cells = [p.name, f"{p.seconds:.0f} s", p.chats, p.failed, *times, p.unknown_keys, recovery]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="of each outage (default: 120)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    with start_postgres() as postgres, start_redis() as redis:
        upgrade_database(DatabaseSettings(url=postgres.url), Path())
        phases = asyncio.run(measure(postgres, redis, options.seconds))
    if options.json:
        print(json.dumps([asdict(phase) for phase in phases], indent=2))
    else:
        print(format_table(phases))
    return 0 if all(phase.is_right for phase in phases) else 1


if __name__ == "__main__":
    sys.exit(main())
