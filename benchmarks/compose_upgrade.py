"""Replace the gateways of docker-compose.full.yml by another version and back, under load.

    python -m benchmarks.compose_upgrade [--from COMMIT] [--rounds 1] [--keep]

The previous version is the code of a commit, by default the last one before the newest migration,
so that the upgrade changes the database. `deploy/rolling-update.sh` then goes to the present
version and back, while clients stream and chat through nginx and TLS. Clients do not send requests
again.

Exits with 1 if a stream or another request fails, or if the ledger does not have exactly one line,
with the right tokens, for each complete response.
"""

import argparse
import asyncio
import sys
from time import monotonic
from typing import Final

from benchmarks.compose_load import OK, Load, compare_ledger, count_outcomes, measure_chats
from benchmarks.compose_outages import start
from benchmarks.compose_stack import VERSION, Stack, build_images, build_previous, run, run_stack

STREAMS: Final = 20
CHATS: Final = 6
PREVIOUS: Final = "previous"
_VERSIONS: Final = "maxgate/stores/migrations/versions"


def find_previous() -> str:
    """Return the parent of the commit that added the newest migration."""
    newest = run("git", "ls-files", f"{_VERSIONS}/revision_*.py").splitlines()[-1]
    added = run("git", "log", "--format=%h", "--diff-filter=A", "--", newest).splitlines()[-1]
    return run("git", "rev-parse", "--short", f"{added}^")


async def replace(stack: Stack, key: str, version: str) -> bool:
    """Replace all gateways under load, and print what clients saw."""
    load = Load(key, f"to-{version}-{monotonic():.0f}")
    before = await asyncio.to_thread(_read_revision, stack)
    began = monotonic()
    async with load.run(STREAMS, CHATS):
        await asyncio.sleep(3)
        stack.version = version
        await asyncio.to_thread(run, "deploy/rolling-update.sh", version, **stack.environment)
        await asyncio.sleep(3)
    seconds = monotonic() - began
    images = run(
        *("docker", "inspect", "--format", "{{.Config.Image}}"),
        *(await asyncio.to_thread(stack.list_containers, "gateway")),
    ).splitlines()
    await asyncio.sleep(3)
    difference = compare_ledger(load.requests, await asyncio.to_thread(stack.read_ledger))
    failed = load.select(lambda request: request.outcome != OK)
    streams = load.select(lambda request: request.is_stream)
    lost = [request for request in failed if request.is_stream]
    after = await asyncio.to_thread(_read_revision, stack)
    _, p99 = measure_chats(load.requests)
    print(
        f"to {version}: {seconds:.0f} s, {len(images)} x {', '.join(sorted(set(images)))}, schema "
        f"{before} to {after}\n"
        f"  {len(streams)} streams, {len(lost)} lost; {len(load.requests) - len(streams)} chats, "
        f"{len(failed) - len(lost)} failed; failures: {count_outcomes(failed)}; P99 of chats "
        f"{p99:.0f} ms\n"
        f"  ledger: {difference or 'one line for every complete response'}",
        flush=True,
    )
    return not failed and not difference


def _read_revision(stack: Stack) -> str:
    """Return the revision of the database."""
    return stack.execute(
        "gateway", "python", "-c",
        "import psycopg, pathlib;"
        "url = pathlib.Path('/run/secrets/maxgate_database__url').read_text();"
        "print(psycopg.connect(url).execute("
        "'select version_num from maxgate.maxgate_revision').fetchone()[0])",
    )  # fmt: skip


async def measure(stack: Stack, rounds: int) -> bool:
    """Upgrade and roll back."""
    key, _ = await start(stack)
    results = []
    for _ in range(rounds):
        for version in (VERSION, PREVIOUS):
            results.append(await replace(stack, key, version))  # noqa: PERF401  # in turn
    return all(results)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--from", dest="commit", help="commit of the previous version")
    parser.add_argument("--rounds", type=int, default=1, help="there and back (default: 1)")
    parser.add_argument("--keep", action="store_true", help="leave the containers running")
    options = parser.parse_args()
    build_images("mock")
    commit = options.commit or find_previous()
    print(f"previous version: {commit}")
    build_previous(commit, PREVIOUS)
    with run_stack("mock", PREVIOUS, keep=options.keep) as stack:
        return 0 if asyncio.run(measure(stack, options.rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
