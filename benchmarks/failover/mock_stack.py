"""A gateway in front of mock engines, and clients that check every response."""

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import orjson

from benchmarks.failover.mock_engine import Fault
from benchmarks.stack import CARD, ROOT, find_free_port, get_json, run_gateway, wait_for

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CLIENT_TIMEOUT = 60.0


@dataclass
class Mock:
    """One mock engine; `kill` and `start` replace its process."""

    first: float
    gap: float
    port: int = field(default_factory=find_free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the process and wait until it responds."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "benchmarks.failover.mock_engine", str(self.port)]
        flags = ["--first", str(self.first), "--gap", str(self.gap)]
        self.process = subprocess.Popen([*command, *flags], cwd=ROOT)

    def wait(self) -> None:
        """Wait until the process responds."""
        assert self.process is not None
        wait_for(f"{self.url}/v1/models", timeout=30, process=self.process)

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def fail(self, fault: Fault) -> float:
        """Let later requests fail in this way; returns the time."""
        data = json.dumps(fault).encode()
        urllib.request.urlopen(f"{self.url}/fault", data=data, timeout=5).close()
        return time.monotonic()

    def list_calls(self) -> list[tuple[float, bool]]:
        """Return the time of each request, and whether it was served."""
        return [(at, served) for at, served in get_json(f"{self.url}/calls")["calls"]]


@contextmanager
def run_mocks(
    count: int, first: float, gap: float, config: str = ""
) -> Iterator[tuple[str, list[Mock]]]:
    """Run mock engines and a gateway with a YAML `config`; yields its URL and the mocks."""
    with ExitStack() as stack:
        mocks = [Mock(first, gap) for _ in range(count)]
        for mock in mocks:
            stack.callback(mock.kill)
            mock.begin()
        path = Path(stack.enter_context(TemporaryDirectory())) / "maxgate.yaml"
        path.write_text(config or "{}")
        flags = [flag for mock in mocks for flag in ("--engine-url", mock.url)]
        flags += ["--config", str(path), "--card", str(CARD), "--log-level", "error"]
        for mock in mocks:
            mock.wait()
        gateway, process = stack.enter_context(run_gateway(*flags))
        wait_for(f"{gateway}/health/ready", timeout=60, process=process)
        wait_for_engines(gateway)
        yield gateway, mocks


def wait_for_engines(gateway: str) -> None:
    """Wait until all engines of the gateway are healthy; raises TimeoutError after a minute."""
    pause, ends_at = threading.Event(), time.monotonic() + 60
    while any(e["state"] != "healthy" for e in get_json(f"{gateway}/health")["engines"]):
        if time.monotonic() > ends_at:
            raise TimeoutError(f"not all engines of {gateway} are healthy")
        pause.wait(0.05)


@dataclass
class Tally:
    """The outcomes of requests, the seconds of each, and to the first token of each stream."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    first_tokens: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Number of requests that are not `ok`."""
        return self.outcomes.total() - self.outcomes["ok"]


def describe_error(status: int, body: bytes) -> str:
    """Return status and message of an error response."""
    return f"status {status}: {orjson.loads(body)['error']['message']}"


class Clients:
    """Clients with connections that are kept alive; each response is checked."""

    def __init__(self, url: str, *, tokens: int, stream: bool) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self._tokens, self._stream = tokens, stream
        self._idle: list[Connection] = []
        self._expected = "".join(f" {number}" for number in range(tokens))
        body = {
            "messages": [{"role": "user", "content": "Count."}],
            "max_tokens": tokens,
            **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
        }
        data = orjson.dumps(body)
        self._request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)
        )
        self.tally = Tally()

    async def send_all(self, count: int, at_once: int) -> None:
        """Send so many requests, this many at once."""
        numbers = iter(range(count))

        async def send_some() -> None:
            for _ in numbers:
                await self.send()

        await asyncio.gather(*(send_some() for _ in range(at_once)))

    async def send_steadily(self, rate: float, seconds: float) -> None:
        """Send requests at this rate, whether or not earlier ones have been served."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                await asyncio.sleep(began + number / rate - loop.time())
                tasks.create_task(self.send())

    async def send(self) -> None:
        """Send one request and count its outcome."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT), self._connect() as connection:
                outcome = await self._exchange(connection, began)
        except (OSError, asyncio.IncompleteReadError) as error:
            outcome = type(error).__name__
        self.tally.outcomes[outcome] += 1
        self.tally.seconds.append(time.monotonic() - began)

    def close(self) -> None:
        """Close the connections."""
        for _, writer in self._idle:
            writer.close()

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Connection]:
        connection = (
            self._idle.pop()
            if self._idle
            else await asyncio.open_connection(self._host, self._port, limit=2**20)
        )
        try:
            yield connection
        except BaseException:
            connection[1].close()
            raise
        self._idle.append(connection)

    async def _exchange(self, connection: Connection, began: float) -> str:
        reader, writer = connection
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        if b"transfer-encoding: chunked" not in head:
            length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
            body = await reader.readexactly(int(length))
            return self._check_plain(body) if status == 200 else describe_error(status, body)
        pieces = []
        while size := int(await reader.readline(), 16):
            if not pieces:
                self.tally.first_tokens.append(time.monotonic() - began)
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return self._check_stream(b"".join(pieces).decode())

    def _check_plain(self, body: bytes) -> str:
        found = orjson.loads(body)
        if found["choices"][0]["message"]["content"] != self._expected:
            return "wrong text"
        return self._check_usage(found)

    def _check_stream(self, body: str) -> str:
        events = [line[6:] for line in body.split("\n") if line.startswith("data: ")]
        if not events or events[-1] != "[DONE]":
            return "error event" if '"error"' in body else "no end"
        chunks = [orjson.loads(event) for event in events[:-1]]
        text = "".join(
            c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]
        )
        if text != self._expected:
            return "wrong text"
        return self._check_usage(chunks[-1])

    def _check_usage(self, chunk: dict[str, dict[str, int]]) -> str:
        return "ok" if chunk["usage"]["completion_tokens"] == self._tokens else "wrong usage"
