"""Kill real engines in the middle of greedy streams, and compare ids and responses.

    python -m benchmarks.failover.real_engines [--streams 50] [--tokens 100]
        [--runs again,cut,killed,restarted]

Starts MAX twice with the small model (8 GB). The OpenAI SDK reads all streams at once, first
undisturbed, then in the ways of `--runs`:

- `again`, undisturbed: the order in which requests are batched changes how logits are rounded, so
  that some responses differ without any failure;
- `cut`: the connection of each stream is cut at a random token;
- `killed`: one engine is killed with SIGKILL after a third of the tokens, in mid-stream;
- `restarted`: with a gateway that has only the other engine, which is killed, and restarted by its
  supervisor.

A proxy in front of each engine records ids. Each continued prompt must be the first prompt and
exactly the ids that the killed engine had sent, those of an incomplete character excepted. Where
a response differs from the first run, the gap between the log probabilities of the two likeliest
tokens is printed. Exits with 1 if a stream fails, is incomplete or has other ids.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import openai
import psutil

from benchmarks.failover.mock_stack import wait_for_engines
from benchmarks.failover.recording_proxy import Call, RecordingProxy, record
from benchmarks.stack import CARD, MODEL, ROOT, find_free_port, run_gateway, wait_for

SUBJECTS = ("the sea", "a clock", "winter", "a train", "bread", "the moon", "a letter", "rivers")
RUNS = {
    "first": "undisturbed",
    "again": "undisturbed again",
    "cut": "connections cut",
    "killed": "one engine killed",
    "restarted": "the only engine killed",
}
START_TIMEOUT = 300
MAX_INCOMPLETE = 3
CONFIG = "continuation:\n  restart_window: 180\n"


@dataclass(frozen=True)
class Engine:
    """MAX under its supervisor, which restarts it, and the proxy in front of it."""

    port: int
    supervisor: "subprocess.Popen[bytes]"
    url: str
    proxy: RecordingProxy

    def kill(self) -> None:
        """Kill MAX and its workers, but not the supervisor."""
        for child in psutil.Process(self.supervisor.pid).children(recursive=True):
            os.kill(child.pid, signal.SIGKILL)

    async def wait(self) -> None:
        """Wait until MAX responds."""
        await asyncio.to_thread(
            wait_for,
            f"http://127.0.0.1:{self.port}/v1/models",
            timeout=START_TIMEOUT,
            process=self.supervisor,
        )


@contextmanager
def run_engine(port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Run MAX under its supervisor."""
    process = subprocess.Popen(
        [sys.executable, "-m", "maxgate", "engine", "start", MODEL, "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@dataclass
class Run:
    """All streams at once: their texts and ids, the errors, and the number of chunks so far."""

    texts: list[str]
    ids: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    chunks: int = 0
    errors: list[str] = field(default_factory=list)
    completion_tokens: int = 0
    wrong_ids: int = 0
    continued: int = 0
    seconds: float = 0.0

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

    def join_calls(self, calls: Sequence[Call]) -> None:
        """Check the prompts of continued calls, and join the ids of each stream."""
        for call in sorted(calls, key=lambda call: call.at):
            prompt = next((p for p in self.ids if call.prompt[: len(p)] == [*p]), None)
            if prompt is None:
                self.ids[tuple(call.prompt)] = call.ids
                continue
            ids, replayed = self.ids[prompt], call.prompt[len(prompt) :]
            missing = len(ids) - len(replayed)
            self.continued += bool(replayed)
            if replayed != ids[: len(replayed)] or not 0 <= missing <= MAX_INCOMPLETE:
                self.wrong_ids += 1
            self.ids[prompt] = replayed + call.ids


async def read_streams(
    url: str, engines: Sequence[Engine], options: argparse.Namespace, kill: Engine | None = None
) -> Run:
    """Read all streams at once; kill the engine after a third of the tokens, in mid-stream."""
    for engine in engines:
        engine.proxy.calls.clear()
    run, began = Run([""] * options.streams), time.perf_counter()

    async def kill_engine(engine: Engine) -> None:
        # An engine begins and ends several streams at once: after a third of all tokens, it may
        # have begun none of the next ones.
        def is_in_stream() -> bool:
            return any(0 < len(call.ids) < options.tokens // 2 for call in engine.proxy.calls)

        third = options.streams * options.tokens // 3
        while run.chunks < third or not is_in_stream():  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)
        engine.kill()

    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600)
    async with client, asyncio.TaskGroup() as tasks:
        for number in range(options.streams):
            tasks.create_task(run.read(client, number, options.tokens))
        if kill is not None:
            tasks.create_task(kill_engine(kill))
    run.seconds = time.perf_counter() - began
    run.join_calls([call for engine in engines for call in engine.proxy.calls])
    return run


async def find_gap(engine: Engine, prompt: list[int]) -> float:
    """Return the difference of the log probabilities of the two likeliest next tokens."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": ""}],
        "prompt_tokens": prompt,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": True,
        "top_logprobs": 2,
    }
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{engine.port}/v1/chat/completions"
        response = (await client.post(url, json=body)).raise_for_status()
    first, second = response.json()["choices"][0]["logprobs"]["content"][0]["top_logprobs"][:2]
    return abs(float(first["logprob"] - second["logprob"]))


async def report(name: str, run: Run, first: Run, engine: Engine) -> None:
    """Print the counts of a run, and how close the tokens were where it differs from the first."""
    equal = sum(a == b for a, b in zip(first.texts, run.texts, strict=True))
    print(
        f"{name}: {len(run.errors)} errors {run.errors[:3]}, {run.completion_tokens} tokens, "
        f"{run.continued} continued, {run.wrong_ids} of them with other ids, "
        f"{equal} of {len(run.texts)} texts equal, {run.seconds:.1f} s",
        flush=True,
    )
    gaps = []
    for prompt, before in first.ids.items():
        pairs = enumerate(zip(before, run.ids[prompt], strict=False))
        place = next((number for number, (a, b) in pairs if a != b), None)
        if place is not None:
            gaps.append(await find_gap(engine, [*prompt, *before[:place]]))
    if gaps:
        print("  log probability gaps at the first difference: ", end="")
        print(", ".join(f"{gap:.3f}" for gap in sorted(gaps)), flush=True)


@contextmanager
def run_configured_gateway(engines: Sequence[Engine]) -> Iterator[str]:
    """Run a gateway in front of the engines' proxies; yields its URL."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "maxgate.yaml"
        path.write_text(CONFIG)
        flags = [flag for engine in engines for flag in ("--engine-url", engine.url)]
        flags += ["--config", str(path), "--card", str(CARD)]
        with run_gateway(*flags) as (url, process):
            wait_for(f"{url}/health/ready", timeout=60, process=process)
            wait_for_engines(url)
            yield url


async def measure(options: argparse.Namespace) -> list[Run]:
    """Start everything and read all streams in each way."""
    async with AsyncExitStack() as stack:
        engines = []
        for _ in range(2):
            port = find_free_port()
            supervisor = stack.enter_context(run_engine(port))
            url, proxy = await stack.enter_async_context(record(port))
            engines.append(Engine(port, supervisor, url, proxy))
        killed, other = engines
        for engine in engines:
            await engine.wait()
        runs = []
        url = await asyncio.to_thread(stack.enter_context, run_configured_gateway(engines))
        for name in ("first", *options.runs.split(",")):
            for engine in engines:
                engine.proxy.cuts = options.tokens if name == "cut" else None
            kill = {"killed": killed, "restarted": other}.get(name)
            if name == "restarted":
                engines = [other]
                url = await asyncio.to_thread(stack.enter_context, run_configured_gateway(engines))
            runs.append(await read_streams(url, engines, options, kill))
            await report(RUNS[name], runs[-1], runs[0], other)
            is_disturbed = name not in {"first", "again"}
            if is_disturbed and not runs[-1].continued:
                runs[-1].errors.append("no stream was continued")
        return runs


def main() -> int:
    """Run everything; see above for the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--runs", default=",".join([*RUNS][1:]), help="by default all")
    options = parser.parse_args()
    runs = asyncio.run(measure(options))
    tokens = options.streams * options.tokens
    right = all(r.completion_tokens == tokens and not r.errors and not r.wrong_ids for r in runs)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
