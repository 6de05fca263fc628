"""A gateway in front of mock engines, and clients that check what they get."""

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import httpx
import orjson

from benchmarks.failover.mock_engine import Fault
from benchmarks.stack import CARD, ROOT, find_free_port, get_json, run_gateway, wait_for


@dataclass
class Mock:
    """One mock engine; `kill` and `start` replace its process."""

    fault: Fault
    pause: float
    port: int = field(default_factory=find_free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process and wait until it responds."""
        command = [sys.executable, "-m", "benchmarks.failover.mock_engine", str(self.port)]
        flags = ["--fault", self.fault, "--pause", str(self.pause)]
        self.process = subprocess.Popen([*command, *flags], cwd=ROOT)
        wait_for(f"{self.url}/v1/models", timeout=30, process=self.process)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def count_calls(self) -> int:
        """Return the number of requests that it has got."""
        calls: int = get_json(f"{self.url}/calls")["calls"]
        return calls


@contextmanager
def run_mocks(
    faults: Sequence[Fault], pause: float, *flags: str
) -> Iterator[tuple[str, list[Mock]]]:
    """Run a mock engine for each fault, and a gateway; yields the gateway's URL and the mocks."""
    with ExitStack() as stack:
        mocks = [Mock(fault, pause) for fault in faults]
        for mock in mocks:
            stack.callback(mock.kill)
            mock.start()
        urls = [flag for mock in mocks for flag in ("--engine-url", mock.url)]
        gateway, process = stack.enter_context(run_gateway(*urls, "--card", str(CARD), *flags))
        wait_for(f"{gateway}/health/ready", timeout=60, process=process)
        yield gateway, mocks


@dataclass
class Tally:
    """The outcomes of requests, and the seconds that each took."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Number of requests that are not `ok`."""
        return self.outcomes.total() - self.outcomes["ok"]


async def send_requests(
    url: str, count: int, *, at_once: int, tokens: int, stream: bool, tally: Tally
) -> None:
    """Send requests with limited concurrency and check text and usage of each response."""
    limit = asyncio.Semaphore(at_once)
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def send() -> None:
            async with limit:
                began = time.perf_counter()
                tally.outcomes[await _send(client, tokens=tokens, stream=stream)] += 1
                tally.seconds.append(time.perf_counter() - began)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(send())


async def _send(client: httpx.AsyncClient, *, tokens: int, stream: bool) -> str:
    body = {
        "messages": [{"role": "user", "content": "Count."}],
        "max_tokens": tokens,
        "stream": stream,
        "stream_options": {"include_usage": True} if stream else None,
    }
    try:
        response = await client.post("/v1/chat/completions", json=body)
    except httpx.HTTPError as error:
        return type(error).__name__
    if response.status_code != 200:
        return f"status {response.status_code}"
    expected = "".join(f" {number}" for number in range(tokens))
    if not stream:
        found = response.json()
        text = found["choices"][0]["message"]["content"]
        return "ok" if text == expected else "wrong text"
    return _check_stream(response.text, expected, tokens)


def _check_stream(body: str, expected: str, tokens: int) -> str:
    events = [line.removeprefix("data: ") for line in body.split("\n") if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        return "error event" if '"error"' in body else "no end"
    chunks = [orjson.loads(event) for event in events[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    if text != expected:
        return "wrong text"
    return "ok" if chunks[-1]["usage"]["completion_tokens"] == tokens else "wrong usage"
