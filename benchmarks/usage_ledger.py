"""Show that every request is in the ledger exactly once, whatever fails.

    python -m benchmarks.usage_ledger [--requests 20000] [--outage 10] [--json]

Chats (plain, streamed, with two choices, aborted), completions of two prompts, and embeddings are
sent to a gateway with two workers, in front of mock engines, with PostgreSQL and Redis. A sixth of
them is sent in each phase: undisturbed; while workers are killed (SIGKILL) one after the other;
while the database is down; while Redis is down; while the spool is full; while the disk is full.
The gateway then gets SIGTERM under load, and starts again with the same state. The state is on a
small file system in memory, which only root can mount; for others, the phase of the disk is left
out.

Exits with 1 unless every request whose last byte its client received has exactly one line, with
the tokens of its response; and unless, undisturbed, the tokens of all lines are those that the
engine counted.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

import psutil

from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.usage import EntryQuery, UsageEntry, UsageStore
from maxgate.stores.usage_store import open_usage_store
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD
from tests.fakes.ledger_load import KINDS, Ballast, Comparison, CountingMax, LedgerLoad, compare
from tests.fakes.postgres_server import PostgresServer, start_postgres
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.server import serving

CONNECTIONS: Final = 32
KILL_SECONDS: Final = 1.5
KILLS: Final = 5
FULL_SECONDS: Final = 10.0
MAX_SPOOL_BYTES: Final = 64 * 1024 * 1024
DISK_BYTES: Final = 96 * 1024 * 1024
SETTLE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Phase:
    """The responses that clients got in a phase, and whether the ledger agrees at the end."""

    name: str
    seconds: float
    sent: int
    received: int
    refused: dict[int, int]


@dataclass
class Stand:
    """Everything that runs; the server may be restarted."""

    state_dir: Path
    postgres: PostgresServer
    redis: RedisServer
    chat: CountingMax
    urls: Sequence[str]
    has_disk: bool
    """Whether the state has a file system of its own."""
    server: ServerProcess | None = None

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[ServerProcess]:
        """Run the gateway."""
        async with api_server(
            *("--workers", "2", "--card", str(SMALL_CARD), "--card", str(EMBEDDING_CARD)),
            *("--log-format", "json"),
            MAXGATE_STATE_DIR=str(self.state_dir),
            MAXGATE_ENGINES=",".join(self.urls),
            MAXGATE_USAGE__ENABLED="true",
            MAXGATE_USAGE__MAX_SPOOL_BYTES=str(MAX_SPOOL_BYTES),
            MAXGATE_DATABASE__TIMEOUT="1",
            MAXGATE_TELEMETRY__LOG_LEVEL="warning",
            DATABASE_URL=self.postgres.url,
            REDIS_URL=self.redis.url,
        ) as self.server:
            yield self.server


async def kill_workers(stand: Stand) -> None:
    """Kill a worker now and then; the parent starts another one."""
    assert stand.server is not None
    for _ in range(KILLS):
        await asyncio.sleep(KILL_SECONDS)
        for worker in stand.server.find_workers()[:1]:
            with suppress(psutil.NoSuchProcess):
                worker.kill()


async def stop_database(stand: Stand, seconds: float) -> None:
    """Stop the database for some time."""
    await asyncio.to_thread(stand.postgres.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(stand.postgres.start)


async def stop_redis(stand: Stand, seconds: float) -> None:
    """Stop Redis for some time."""
    await asyncio.to_thread(stand.redis.stop)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(stand.redis.start)


async def fill_spool(stand: Stand) -> None:
    """Leave no room for some time."""
    ballast = Ballast(stand.state_dir, MAX_SPOOL_BYTES)
    await asyncio.sleep(FULL_SECONDS)
    ballast.remove()


async def fill_disk(stand: Stand) -> None:
    """Leave no room on the disk for some time."""
    file = stand.state_dir / "ballast"
    await asyncio.to_thread(write_until_full, file)
    await asyncio.sleep(FULL_SECONDS)
    file.unlink()


def write_until_full(path: Path) -> None:
    """Write a file that takes all the room that there is."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(64 * 1024)):
            pass


@contextmanager
def mount_disk(folder: Path) -> Iterator[bool]:
    """Mount a small file system at a folder; False without the rights of root."""
    if os.geteuid():
        yield False
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "maxgate", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607


async def run_phase(name: str, load: LedgerLoad, requests: int, fault: object) -> Phase:
    """Send requests until both they and the fault have ended."""
    began, sent, received = monotonic(), load.sent, len(load.received)
    load.refused = {}
    task = asyncio.ensure_future(fault) if asyncio.iscoroutine(fault) else None
    await load.send(requests, CONNECTIONS)
    while task is not None and not task.done():
        await load.send(CONNECTIONS * 4, CONNECTIONS)
    if task is not None:
        await task
    done = len(load.received) - received
    return Phase(name, monotonic() - began, load.sent - sent, done, dict(load.refused))


async def stop_under_load(stand: Stand, load: LedgerLoad, requests: int) -> Phase:
    """Send SIGTERM to the gateway while it works."""
    began, sent, received = monotonic(), load.sent, len(load.received)
    assert stand.server is not None
    sending = asyncio.create_task(load.send(requests, CONNECTIONS))
    await asyncio.sleep(0.5)
    stand.server.process.send_signal(signal.SIGTERM)
    await stand.server.process.wait()
    await sending
    done = len(load.received) - received
    return Phase("SIGTERM", monotonic() - began, load.sent - sent, done, {})


async def read_entries(store: UsageStore) -> list[UsageEntry]:
    """Read all lines in the database."""
    return list(await store.list_entries(EntryQuery(0, 1e11, limit=10**7)))


async def settle(store: UsageStore, load: LedgerLoad) -> Comparison:
    """Wait until all lines have been moved, and compare."""
    deadline = monotonic() + SETTLE_SECONDS
    while True:
        result = compare(load, await read_entries(store))
        if result.is_right or monotonic() > deadline:
            return result
        await asyncio.sleep(1)


@asynccontextmanager
async def run_stand() -> AsyncIterator[Stand]:
    """Run everything but the gateway."""
    chat, embedder = CountingMax(1), CountingMax(2, models=[EMBEDDING_MODEL], context_length=256)
    with TemporaryDirectory() as folder, start_postgres() as postgres, start_redis() as redis:
        upgrade_database(DatabaseSettings(url=postgres.url), Path(folder))
        async with serving(chat) as chat_url, serving(embedder) as embedder_url:
            urls = [chat_url, embedder_url]
            with mount_disk(Path(folder)) as has_disk:
                yield Stand(Path(folder), postgres, redis, chat, urls, has_disk)


async def measure(requests: int, outage: float) -> tuple[list[Phase], Comparison, bool]:
    """Run all phases; returns them, the comparison, and whether the engine's tokens agree."""
    part = requests // 6
    async with (
        run_stand() as stand,
        aclosing(
            open_usage_store(DatabaseSettings(url=stand.postgres.url, timeout=30), Path())
        ) as store,
    ):
        async with stand.serve() as server:
            load = LedgerLoad(server.url)
            # Of aborted requests, the engine generates more than arrives.
            kinds = [kind for kind in KINDS if kind != "abort"]
            began = monotonic()
            await load.send(part, CONNECTIONS, kinds)
            phases = [Phase("undisturbed", monotonic() - began, part, len(load.received), {})]
            await settle(store, load)
            lines = sum(entry.output_tokens for entry in await read_entries(store))
            is_equal = lines == stand.chat.completion_tokens
            faults = {
                "workers killed": kill_workers(stand),
                "database down": stop_database(stand, outage),
                "Redis down": stop_redis(stand, outage),
                "spool full": fill_spool(stand),
            }
            if stand.has_disk:
                faults["disk full"] = fill_disk(stand)
            for name, fault in faults.items():
                phases.append(await run_phase(name, load, part, fault))
            phases.append(await stop_under_load(stand, load, part // 4))
        async with stand.serve():
            return phases, await settle(store, load), is_equal


def format_table(phases: Sequence[Phase]) -> str:
    """Format the phases as a Markdown table."""
    lines = ["| phase | seconds | sent | received | refused |", "|---|--:|--:|--:|---|"]
    for p in phases:
        refused = ", ".join(f"{status}: {count}" for status, count in sorted(p.refused.items()))
        lines.append(f"| {p.name} | {p.seconds:.0f} | {p.sent} | {p.received} | {refused} |")
    return "\n".join(lines)


def main() -> int:
    """Measure and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=20_000, help="number (default: 20000)")
    parser.add_argument(
        "--outage", type=float, default=10, help="seconds of each outage (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    phases, result, is_equal = asyncio.run(measure(options.requests, options.outage))
    if options.json:
        values = {"phases": [asdict(p) for p in phases], **asdict(result), "equal": is_equal}
        print(json.dumps(values, indent=2))
    else:
        print(format_table(phases))
        print(
            f"\n{result.received} responses received: {result.missing} without a line, "
            f"{result.wrong} with other tokens; {result.repeated} requests with several lines. "
            f"Tokens of the undisturbed engine {'agree' if is_equal else 'differ'}."
        )
    return 0 if result.is_right and is_equal else 1


if __name__ == "__main__":
    sys.exit(main())
