"""Kill one of two real engines in the middle of greedy streams, and compare the responses.

    python -m benchmarks.failover.real_engines [--streams 50] [--tokens 100]

Starts MAX twice with the small model (8 GB) and the gateway in front of both. The OpenAI SDK reads
all streams at once, twice undisturbed and once while one engine is killed with SIGKILL after a
third of the tokens. Exits with 1 if a stream fails or is incomplete. Responses may differ from
those of the first run: the order in which requests are batched changes how logits are rounded. The
second run shows how many do so without any failure.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import openai
import psutil

from benchmarks.stack import (
    CARD,
    MODEL,
    ROOT,
    find_free_port,
    get_json,
    read_counter,
    run_gateway,
    wait_for,
)

SUBJECTS = ("the sea", "a clock", "winter", "a train", "bread", "the moon", "a letter", "rivers")
START_TIMEOUT = 300


@contextmanager
def run_engine() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run MAX under its supervisor, which restarts it; yields its URL and process."""
    port = find_free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "maxgate", "engine", "start", MODEL, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def kill_engine(supervisor: int) -> None:
    """Kill MAX and its workers, but not the supervisor."""
    for child in psutil.Process(supervisor).children(recursive=True):
        os.kill(child.pid, signal.SIGKILL)


@dataclass
class Run:
    """The texts of all streams, the errors, and how many chunks have arrived."""

    texts: list[str]
    chunks: int = 0
    errors: list[str] = field(default_factory=list)
    completion_tokens: int = 0

    async def read(self, client: openai.AsyncOpenAI, number: int, tokens: int) -> None:
        """Read the stream with this number to its end."""
        prompt = f"Write {number + 3} sentences about {SUBJECTS[number % len(SUBJECTS)]}."
        try:
            stream = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": prompt}],
                temperature=0,
                max_tokens=tokens,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            async for chunk in stream:
                if chunk.usage is not None:
                    self.completion_tokens += chunk.usage.completion_tokens
                for choice in chunk.choices:
                    self.texts[number] += choice.delta.content or ""
                    self.chunks += 1
        except openai.OpenAIError as error:
            self.errors.append(f"stream {number}: {error}")

    async def kill_after(self, chunks: int, supervisor: int) -> None:
        """Kill the engine of this supervisor once so many chunks have arrived."""
        while self.chunks < chunks:  # noqa: ASYNC110  # the streams report nothing
            await asyncio.sleep(0.05)
        kill_engine(supervisor)


async def read_streams(url: str, streams: int, tokens: int, kill: int | None) -> Run:
    """Read all streams at once; kill the engine of this supervisor after a third of the tokens."""
    run = Run([""] * streams)
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
    async with client, asyncio.TaskGroup() as tasks:
        for number in range(streams):
            tasks.create_task(run.read(client, number, tokens))
        if kill is not None:
            tasks.create_task(run.kill_after(streams * tokens // 3, kill))
    return run


async def wait_for_engines(gateway: str, count: int) -> None:
    """Wait until the gateway has found all engines."""
    async with asyncio.timeout(START_TIMEOUT):
        healthy = 0
        while healthy < count:  # the gateway reports nothing
            await asyncio.sleep(0.2)
            engines = get_json(f"{gateway}/health")["engines"]
            healthy = sum(engine["state"] == "healthy" for engine in engines)


def main() -> int:
    """Run everything and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=100)
    options = parser.parse_args()
    with ExitStack() as stack:
        engines = [stack.enter_context(run_engine()) for _ in range(2)]
        for url, process in engines:
            wait_for(f"{url}/v1/models", timeout=START_TIMEOUT, process=process)
        flags = [flag for url, _ in engines for flag in ("--engine-url", url)]
        gateway, process = stack.enter_context(run_gateway(*flags, "--card", str(CARD)))
        wait_for(f"{gateway}/health/ready", timeout=60, process=process)
        asyncio.run(wait_for_engines(gateway, len(engines)))
        runs = []
        for kill in (None, None, engines[0][1].pid):
            began = time.perf_counter()
            runs.append(asyncio.run(read_streams(gateway, options.streams, options.tokens, kill)))
            print(f"{time.perf_counter() - began:.1f} s, errors: {runs[-1].errors}")
        continuations = read_counter(gateway, "maxgate_continuations_total")
    first, *others = runs
    for name, run in zip(("undisturbed again", "one engine killed"), others, strict=True):
        equal = sum(a == b for a, b in zip(first.texts, run.texts, strict=True))
        print(f"{name}: {equal} of {options.streams} equal, {run.completion_tokens} tokens")
    print(f"{continuations} continuations")
    complete = all(run.completion_tokens == options.streams * options.tokens for run in runs)
    return 0 if complete and not any(run.errors for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
