"""Count what the ledger writes to PostgreSQL at a constant rate of requests.

    python -m benchmarks.usage_writes [--rate 5000] [--seconds 15] [--json]

Lines of 20 projects with 100 keys are appended to a spool, 100 times per second, and waited for as
requests do; the mover of the same process stores them in a real PostgreSQL with the default
settings. Prints how many transactions and statements the database gets per second, how many entries
a statement stores, how many lines were left when the last one was written, and the CPU time of this
process per line, which contains everything: making lines, syncing and moving them.

Exits with 1 if a line is missing or twice in the database, if there are more than 20 statements per
second, or if the mover does not keep up: more than two intervals of lines were left at the end.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg
from sqlalchemy import Engine, event

from maxgate.clock import SystemClock
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from maxgate.stores.usage_store import open_usage_store
from maxgate.usage.folder import make_folder
from maxgate.usage.groups import encode_groups
from maxgate.usage.mover import Mover, MoverEvents
from maxgate.usage.settings import UsageSettings
from maxgate.usage.spool import Spool
from tests.fakes.postgres_server import start_postgres

MAX_STATEMENTS: Final = 20
"""Statements per second, transactions' beginnings and ends included."""
GROUPS: Final = 100
"""Groups of requests per second that end together."""
PROJECTS: Final = 20
KEYS: Final = 100


@dataclass(frozen=True)
class Writes:
    """The writes of one run; rates are per second."""

    rate: float
    lines: int
    stored: int
    left: int
    transactions: float
    statements: float
    entries_per_insert: float
    cpu_us_per_line: float
    is_right: bool


_ENTRIES: Final = re.compile(r"INSERT INTO \S*usage_entries\b")


class Statements:
    """Counts of what all engines of SQLAlchemy send to databases."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        event.listen(Engine, "before_cursor_execute", self._count_statement)
        event.listen(Engine, "begin", lambda _: self.counts.update(["BEGIN"]))
        event.listen(Engine, "commit", lambda _: self.counts.update(["COMMIT"]))

    def _count_statement(self, _: Any, __: Any, statement: str, *___: Any) -> None:
        is_insert = _ENTRIES.search(statement)
        self.counts["INSERT entries" if is_insert else statement.partition(" ")[0]] += 1


def build_lines(numbers: Sequence[int]) -> bytes:
    """Return the lines of chat requests, as one group."""
    return encode_groups([_build_row(number) for number in numbers])


def _build_row(number: int) -> tuple[object, ...]:
    key, now = number % KEYS, time.time()
    caller = (f"proj_{key % PROJECTS}", f"user_{key}", f"key_{key}")
    request = (f"req_{number:024x}", "completions", "/v1/chat/completions", *caller)
    engine = ("llama-3.1-8b-instruct", "http://10.0.0.1:8000", "ok", 200, True, False, 1)
    use = (512, 128, 256, 0.001234, 0.123456, 2.345678, 2.312345, 0.072345)
    return (number, now, *request, *engine, *use, "default", {}, [])


def ignore(number: int) -> None:
    """Do nothing with a number of lines."""
    del number


async def append_lines(spool: Spool[int], rate: float, seconds: float) -> int:
    """Append lines as requests end, and return their number."""
    lines, started = 0, time.monotonic()
    durable = asyncio.Event()
    while (elapsed := time.monotonic() - started) < seconds:
        durable.clear()
        waits = False
        while lines < elapsed * rate:
            lines += 1
            waits = spool.append(lines, durable.set)
        if waits:
            await durable.wait()
        await asyncio.sleep(1 / GROUPS)
    return lines


async def measure(folder: Path, url: str, rate: float, seconds: float) -> Writes:
    """Append and move lines."""
    store = open_usage_store(DatabaseSettings(url=url), folder)
    lines_folder, settings = make_folder(folder), UsageSettings(enabled=True)
    moved = Counter[str]()
    events = MoverEvents(lambda lines: moved.update(lines=lines), ignore, ignore)
    mover = Mover(lines_folder, store, settings, SystemClock(), events)
    spool = Spool(
        lines_folder,
        settings.max_spool_bytes,
        encode=build_lines,
        on_written=ignore,
        on_lost=lambda lines: moved.update(lost=lines),
    )
    moving = asyncio.create_task(mover.run())
    spool.append(0)
    await asyncio.sleep(2 * settings.move_interval)  # makes partitions, and deletes what is old
    statements, cpu, moved["lines"] = Statements(), time.process_time(), 0
    lines = await append_lines(spool, rate, seconds)
    cpu, counts, left = time.process_time() - cpu, statements.counts.copy(), lines - moved["lines"]
    await spool.aclose()
    mover.stop()
    await moving
    await store.aclose()
    with psycopg.connect(url) as connection:
        query = "SELECT count(*), count(DISTINCT sequence) FROM maxgate.usage_entries"
        stored, distinct = connection.execute(query).fetchone() or (0, 0)
    per_second = counts.total() / seconds
    return Writes(
        rate=lines / seconds,
        lines=lines,
        stored=stored,
        left=left,
        transactions=counts["COMMIT"] / seconds,
        statements=per_second,
        entries_per_insert=(lines - left) / max(counts["INSERT entries"], 1),
        cpu_us_per_line=cpu / lines * 1e6,
        is_right=stored == distinct == lines + 1
        and per_second <= MAX_STATEMENTS
        and left <= 2 * settings.move_interval * rate,
    )


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=5000, help="lines per second (default: 5000)")
    parser.add_argument("--seconds", type=float, default=15, help="duration (default: 15)")
    parser.add_argument("--json", action="store_true", help="print the values as JSON")
    options = parser.parse_args()
    with TemporaryDirectory() as name, start_postgres() as server:
        folder = Path(name)
        upgrade_database(DatabaseSettings(url=server.url), folder)
        writes = asyncio.run(measure(folder, server.url, options.rate, options.seconds))
    if options.json:
        print(json.dumps(asdict(writes), indent=2))
    else:
        print("| of the ledger in PostgreSQL | |\n|---|--:|")
        for name, value in asdict(writes).items():
            text = f"{value:.1f}" if isinstance(value, float) else str(value)
            print(f"| {name.replace('_', ' ')} | {text} |")
    return 0 if writes.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
