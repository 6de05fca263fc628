"""Count the calls, functions and files of maxgate that one request runs through.

    python -m benchmarks.call_path [--runs 5] [--json] [--list CASE]
        [--limit-files N] [--limit-changes N]

The gateway, with real sockets, and the client share the profiled thread. The fake MAX has a thread
of its own, because its server shares code with the gateway. Only frames from files below maxgate/
count. A coroutine or generator counts again each time it is resumed.
"""

import argparse
import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx
import structlog

from maxgate.app import create_app
from maxgate.settings import Settings
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.server import serving

ROOT = Path(__file__).parent.parent
CARD = ROOT / "models" / "smollm2-135m-instruct.yaml"
WARM_UP_REQUESTS = 3
PACED_TOKENS = 12
PAUSE = 0.01  # seconds; the gateway is idle again long before the next chunk


@dataclass(frozen=True)
class Case:
    """A request to measure.

    Paced cases report the median over the middle chunks of a stream; others report all calls
    between sending the request and reading the last byte.
    """

    fields: dict[str, Any]
    paced: bool = False


CASES = {
    "chat": Case({}),
    "burst": Case({"stream": True}),
    "chunk": Case({"stream": True}, paced=True),
    "chunk-stop": Case({"stream": True, "stop": ["###"]}, paced=True),
}
TITLES = {
    "chat": "chat, not streamed",
    "burst": "stream, 7 tokens in one burst",
    "chunk": "one more chunk, paced",
    "chunk-stop": "one more chunk, with a stop string",
}


@dataclass(frozen=True)
class Counts:
    """Python calls, distinct functions and files, and consecutive calls in different files."""

    calls: int
    functions: int
    files: int
    changes: int


class CallRecorder:
    """Records the Python calls of this thread into files below a directory, in order."""

    def __init__(self, root: Path) -> None:
        self.calls: list[CodeType] = []
        self._prefix = f"{root}{os.sep}"

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record calls until the block ends, other tasks of the event loop included."""
        sys.setprofile(self._on_event)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _on_event(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(self._prefix):
            self.calls.append(frame.f_code)


def count(calls: Sequence[CodeType], *, before: CodeType | None = None) -> Counts:
    """Count calls; `before` is the call that preceded them, if any."""
    previous = calls if before is None else [before, *calls]
    files = [code.co_filename for code in previous]
    changes = sum(a != b for a, b in pairwise(files))
    return Counts(len(calls), len(set(calls)), len({code.co_filename for code in calls}), changes)


def list_files(calls: Sequence[CodeType], root: Path) -> list[str]:
    """Relative paths of the called files in order, without immediate repetitions."""
    files = [str(Path(code.co_filename).relative_to(root)) for code in calls]
    return [file for i, file in enumerate(files) if i == 0 or file != files[i - 1]]


class EngineWrites:
    """The fake MAX, with its stream written in one piece or paused before each event."""

    def __init__(self) -> None:
        self.fake = FakeMax()
        self.paced = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve ASGI requests."""
        held: list[dict[str, Any]] = []

        async def send_paced(message: dict[str, Any]) -> None:
            await asyncio.sleep(PAUSE)
            await send(message)

        async def send_whole(message: dict[str, Any]) -> None:
            held.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await send(held[0])
                body = b"".join(part["body"] for part in held[1:])
                await send({"type": "http.response.body", "body": body})

        if scope["type"] == "lifespan":
            await self.fake(scope, receive, send)
        else:
            await self.fake(scope, receive, send_paced if self.paced else send_whole)


@contextmanager
def engine_thread(engine: EngineWrites) -> Iterator[str]:
    """Serve the engine in a thread of its own; yields its URL."""
    loop, stop, urls = asyncio.new_event_loop(), asyncio.Event(), list[str]()
    ready = threading.Event()

    async def serve() -> None:
        async with serving(engine) as url:
            urls.append(url)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    if not ready.wait(30):
        raise SystemExit("the fake MAX did not start within 30 s")
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@asynccontextmanager
async def start_gateway(engine_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the gateway in this event loop; yields a client that keeps one connection open."""
    app = create_app(Settings(engines=[engine_url], cards=[CARD]))
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


async def record_request(client: httpx.AsyncClient, case: Case) -> list[list[CodeType]]:
    """Send one request; returns the calls before each received piece of the response.

    Pieces that were received together with the one before have no calls and are left out.
    """
    recorder, ends = CallRecorder(ROOT / "maxgate"), [0]
    body = {"messages": [{"role": "user", "content": "Hello"}], **case.fields}
    with recorder.recording():
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            ends.extend([len(recorder.calls) async for _ in response.aiter_raw()])
    if response.status_code != 200:
        raise SystemExit(f"the gateway responded with {response.status_code}")
    ends.append(len(recorder.calls))
    return [recorder.calls[a:b] for a, b in pairwise(ends) if a < b]


async def measure(
    client: httpx.AsyncClient, engine: EngineWrites, case: Case, runs: int
) -> tuple[Counts, list[CodeType]]:
    """Measure a case; returns one run and its calls.

    It is the median run of a paced case by calls, and otherwise the run with the fewest: timers of
    the gateway that expire during a request only add calls.
    """
    engine.paced = case.paced
    found: list[tuple[Counts, list[CodeType]]] = []
    for number in range(WARM_UP_REQUESTS + runs):
        if case.paced:
            engine.fake.scripts.append(Script(tokens=[" word"] * PACED_TOKENS))
        pieces = await record_request(client, case)
        if number < WARM_UP_REQUESTS:
            continue
        if case.paced:
            middle = range(len(pieces) // 4, len(pieces) * 3 // 4)
            found += [(count(pieces[i], before=pieces[i - 1][-1]), pieces[i]) for i in middle]
        else:
            calls = list(chain.from_iterable(pieces))
            found.append((count(calls), calls))
    found.sort(key=lambda run: run[0].calls)
    return found[len(found) // 2 if case.paced else 0]


async def measure_all(names: Sequence[str], runs: int) -> dict[str, tuple[Counts, list[CodeType]]]:
    """Measure the named cases with one gateway."""
    engine = EngineWrites()
    with engine_thread(engine) as url:
        async with start_gateway(url) as client:
            return {name: await measure(client, engine, CASES[name], runs) for name in names}


def exceeds(counts: Counts, *, files: int | None, changes: int | None) -> list[str]:
    """Describe each limit that the counts exceed."""
    limits = [("files", counts.files, files), ("changes of file", counts.changes, changes)]
    return [
        f"chat: {value} {name}, limit {limit}"
        for name, value, limit in limits
        if limit is not None and value > limit
    ]


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.call_path", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--runs", type=int, default=5, help="requests per case (default: 5)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--list", choices=CASES, help="print the sequence of files of this case")
    parser.add_argument("--limit-files", type=int, help="exit 1 if the chat case visits more files")
    parser.add_argument("--limit-changes", type=int, help="exit 1 if it changes file more often")
    arguments = parser.parse_args()
    names = [arguments.list] if arguments.list else [*CASES]
    with Path(os.devnull).open("w") as log:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(log))
        found = asyncio.run(measure_all(names, arguments.runs))
    if arguments.list:
        print("\n".join(list_files(found[arguments.list][1], ROOT / "maxgate")))
        return 0
    if arguments.json:
        print(json.dumps({name: asdict(counts) for name, (counts, _) in found.items()}, indent=2))
    else:
        print(f"{'':36}{'calls':>7}{'functions':>11}{'files':>7}{'changes of file':>17}")
        for name, (c, _) in found.items():
            print(f"{TITLES[name]:36}{c.calls:7}{c.functions:11}{c.files:7}{c.changes:17}")
    exceeded = exceeds(
        found["chat"][0], files=arguments.limit_files, changes=arguments.limit_changes
    )
    print(*exceeded, sep="\n", end="\n" if exceeded else "", file=sys.stderr)
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
