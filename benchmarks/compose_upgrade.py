"""Replace the gateways of docker-compose.full.yml by the next version and back, under load.

    python -m benchmarks.compose_upgrade [--rounds 1] [--interrupt SECONDS] [--keep] [--reuse]

The next version is this one with one more migration, which adds a column to the table of usage.
`deploy/rolling-update.sh` goes there and back, while clients stream and chat through nginx and TLS.
Clients send a request again, at most twice as OpenAI's SDKs, if nginx closes its connection before
a response: a reload of nginx ends idle connections. With `--interrupt`, each update gets Ctrl-C
that long after it has replaced its first gateway, and runs again.

Exits with 1 if a stream or another request fails, if the ledger does not have exactly one line,
with the right tokens, for each complete response, or if other gateways run in the end.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import threading
from time import monotonic
from typing import Final

from benchmarks.compose_load import OK, Load, compare_ledger, count_outcomes, measure_chats
from benchmarks.compose_outages import start
from benchmarks.compose_stack import (
    IMAGE,
    VERSION,
    Stack,
    build_images,
    build_next,
    run,
    run_stack,
)
from benchmarks.stack import ROOT

STREAMS: Final = 12
CHATS: Final = 4
GATEWAYS: Final = 4
NEXT: Final = "next"
SCRIPT: Final = "deploy/rolling-update.sh"


def interrupt(stack: Stack, version: str, seconds: float) -> None:
    """Start an update, and send it Ctrl-C `seconds` after it has replaced the first gateway."""
    process = subprocess.Popen(
        [SCRIPT, version],
        cwd=ROOT,
        env={**os.environ, **stack.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("replaced"):
            break
    threading.Event().wait(seconds)
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stdout.read().strip().splitlines()
    left = len(stack.list_containers("gateway"))
    print(f"Ctrl-C after {seconds:g} s: exit code {process.wait()}, {left} gateways, {rest[-1:]}")


async def replace(stack: Stack, key: str, version: str, interruption: float | None) -> bool:
    """Replace all gateways under load, and print what clients saw."""
    load = Load(key, f"to-{version}-{monotonic():.0f}", retries=2)
    before = await asyncio.to_thread(_read_revision, stack)
    began = monotonic()
    async with load.run(STREAMS, CHATS):
        await asyncio.sleep(3)
        stack.version = version
        if interruption is not None:
            await asyncio.to_thread(interrupt, stack, version, interruption)
        await asyncio.to_thread(run, SCRIPT, version, environment=stack.environment)
        await asyncio.sleep(3)
    seconds = monotonic() - began
    images = run(
        *("docker", "inspect", "--format", "{{.Config.Image}}"),
        *(await asyncio.to_thread(stack.list_containers, "gateway")),
    ).splitlines()
    is_replaced = images == [f"{IMAGE}:{version}"] * GATEWAYS
    await asyncio.sleep(3)
    difference = compare_ledger(load.requests, await asyncio.to_thread(stack.read_ledger))
    failed = load.select(lambda request: request.outcome != OK)
    streams = load.select(lambda request: request.is_stream)
    again = load.select(lambda request: request.outcome == OK and request.attempts > 1)
    lost = [request for request in failed if request.is_stream]
    after = await asyncio.to_thread(_read_revision, stack)
    _, p99 = measure_chats(load.requests)
    print(
        f"to {version}: {seconds:.0f} s, {len(images)} x {', '.join(sorted(set(images)))}, schema "
        f"{before} to {after}\n"
        f"  {len(streams)} streams, {len(lost)} lost; {len(load.requests) - len(streams)} chats, "
        f"{len(failed) - len(lost)} failed; {len(again)} sent again; failures: "
        f"{count_outcomes(failed)}; P99 of chats {p99:.0f} ms\n"
        f"  ledger: {difference or 'one line for every complete response'}",
        flush=True,
    )
    return is_replaced and not failed and not difference


def _read_revision(stack: Stack) -> str:
    """Return the revision of the database."""
    return stack.execute(
        "gateway", "python", "-c",
        "import psycopg, pathlib;"
        "url = pathlib.Path('/run/secrets/maxgate_database__url').read_text();"
        "print(psycopg.connect(url).execute("
        "'select version_num from maxgate.maxgate_revision').fetchone()[0])",
    )  # fmt: skip


async def measure(stack: Stack, rounds: int, interruption: float | None) -> bool:
    """Upgrade and roll back."""
    key, _ = await start(stack)
    results = []
    for _ in range(rounds):
        for version in (NEXT, VERSION):
            results.append(await replace(stack, key, version, interruption))  # noqa: PERF401
    return all(results)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1, help="there and back (default: 1)")
    parser.add_argument(
        "--interrupt",
        type=float,
        metavar="SECONDS",
        help="send Ctrl-C this long after the first gateway is replaced, and run the script again",
    )
    parser.add_argument("--keep", action="store_true", help="leave the containers running")
    parser.add_argument("--reuse", action="store_true", help="use those that --keep has left")
    options = parser.parse_args()
    if not options.reuse:
        build_images("mock")
        build_next(NEXT)
    with run_stack("mock", keep=options.keep, reuse=options.reuse) as stack:
        return 0 if asyncio.run(measure(stack, options.rounds, options.interrupt)) else 1


if __name__ == "__main__":
    sys.exit(main())
