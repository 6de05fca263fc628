"""Swap models of MAX under load, and let requests alternate between two on-demand models.

    python -m benchmarks.swap [--engine local|docker|fake] [--clients 4] [--requests 200]
        [--age-bound 10]

First, one model is swapped for another one and back, beside each other and in place, while clients
send chat requests for the first one. Then requests alternate between two models of one group. Exits
with 1 if a request failed, or if there were more swaps than the age bound allows.

`local` and `docker` start the real MAX, as a process or a container (docs/containers.md has the
image). They need the two prepared small models: SmolLM2, under two names, and all-MiniLM. `fake`
starts processes that respond at once.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.stack import ROOT, find_free_port, wait_for
from tests.fakes.max_program import install, write_card

TIMEOUT = 600
POLL_INTERVAL = 0.2
LOAD_SECONDS = 2
# Each is a new connection, and so asks one of the two workers.
READY_CHECKS = 40
MAX_LOG = 20_000
SMOLLM2 = "smollm2-135m-instruct"
CHAT, OTHER, EMBEDDINGS = "small-a", "small-b", "embeddings"


@dataclass
class Outcomes:
    """Statuses of the requests, and the longest response time in seconds."""

    statuses: Counter[str] = field(default_factory=Counter)
    longest: float = 0

    @property
    def failed(self) -> int:
        """Number of requests without a complete response."""
        return sum(self.statuses.values()) - self.statuses["200"]


def write_cards(folder: Path, engine: str, load: str, models: Mapping[str, str]) -> dict[str, str]:
    """Write the cards of models with their sources; returns the settings to start them with."""
    if engine == "fake":
        settings = install(folder)
        for name in models:
            write_card(folder, name, load=load)
        return settings
    folder.mkdir()
    for name, source in models.items():
        card = yaml.safe_load((ROOT / "models" / f"{source}.yaml").read_text())
        card |= {"name": name, "aliases": [], "load": load}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(card))
    return {"MAXGATE_ENGINE__MODE": engine, "MAXGATE_CARDS": str(folder)}


@contextmanager
def run_gateway(folder: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Run a gateway that starts MAX, and yield its URL; its output goes to a file."""
    port = find_free_port()
    with (folder / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "api_server.py", "--port", str(port), "--workers", "2"),
                *("--log-format", "json"),
            ],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "MAXGATE_STATE_DIR": str(folder / "state"), **settings},
        )
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(READY_CHECKS):
            wait_for(f"{url}/health/ready", timeout=TIMEOUT, process=process)
        yield url
    except BaseException:
        print((folder / "gateway.log").read_text()[-5000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(120)


async def send(client: httpx.AsyncClient, outcomes: Outcomes, model: str, *, stream: bool) -> None:
    """Send one request, and count its outcome."""
    path, body = "/v1/embeddings", dict[str, Any](model=model, input="Hello")
    if model != EMBEDDINGS:
        messages = [{"role": "user", "content": "Count from one to ten."}]
        path, body = "/v1/chat/completions", {"model": model, "messages": messages}
        body |= {"max_tokens": 12, "temperature": 0, "stream": stream}
    began = time.perf_counter()
    try:
        response = await client.post(path, json=body)
        outcome = str(response.status_code)
        if response.status_code != 200:
            outcome += f" {response.json()['error']['code']}"
        elif stream and not response.text.endswith("data: [DONE]\n\n"):
            outcome = "cut"
    except httpx.HTTPError as error:
        outcome = type(error).__name__
    outcomes.statuses[outcome] += 1
    outcomes.longest = max(outcomes.longest, time.perf_counter() - began)


@asynccontextmanager
async def loaded(client: httpx.AsyncClient, clients: int) -> AsyncIterator[Outcomes]:
    """Send chat requests for one name of SmolLM2 meanwhile; yields their outcomes."""
    outcomes, ended = Outcomes(), asyncio.Event()

    async def run(number: int) -> None:
        while not ended.is_set():
            await send(client, outcomes, CHAT, stream=number % 2 == 0)

    tasks = [asyncio.create_task(run(number)) for number in range(clients)]
    yield outcomes
    ended.set()
    await asyncio.gather(*tasks)


async def swap(client: httpx.AsyncClient, **body: Any) -> Any:
    """Swap two models, and return the final status."""
    (await client.post("/admin/models/swap", json=body)).raise_for_status()
    while True:
        status = (await client.get("/admin/models/swap")).json()
        if status["phase"] in {"done", "failed"}:
            return status
        await asyncio.sleep(POLL_INTERVAL)


async def measure_swaps(url: str, clients: int) -> int:
    """Swap both ways, beside each other and in place; returns the number of failures."""
    failed = 0
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT) as client:
        for in_place in (False, True):
            for old, new in ((CHAT, OTHER), (OTHER, CHAT)):
                async with loaded(client, clients) as outcomes:
                    await asyncio.sleep(LOAD_SECONDS)
                    status = await swap(client, old=old, new=new, in_place=in_place)
                    await asyncio.sleep(LOAD_SECONDS)
                failed += outcomes.failed + (status["phase"] == "failed")
                kind = "in place" if in_place else "beside"
                print(
                    f"{old} -> {new}, {kind}: {status['phase']} after "
                    f"{status['seconds']:.1f} s, held {status['held_seconds']:.1f} s, "
                    f"{outcomes.failed} of {outcomes.statuses.total()} requests failed, longest "
                    f"{outcomes.longest:.1f} s {dict(outcomes.statuses)} {status['error'] or ''}",
                    flush=True,
                )
    return failed


async def alternate(
    url: str, models: Sequence[str], requests: int, clients: int
) -> tuple[Outcomes, float]:
    """Send requests that alternate between the models; returns their outcomes and the time."""
    outcomes, numbers = Outcomes(), iter(range(requests))
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT) as client:

        async def run() -> None:
            for number in numbers:
                await send(client, outcomes, models[number % len(models)], stream=False)

        began = time.perf_counter()
        await asyncio.gather(*(run() for _ in range(clients)))
        return outcomes, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--alternating-clients", type=int, default=32)
    parser.add_argument("--age-bound", type=float, default=10)
    parser.add_argument("--engine", choices=["local", "docker", "fake"], default="local")
    options = parser.parse_args()
    second = {OTHER: ""} if options.engine == "fake" else {EMBEDDINGS: "all-minilm-l6-v2"}
    pair = {CHAT: SMOLLM2, **second}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = write_cards(
            folder / "swap", options.engine, "always", {CHAT: SMOLLM2, OTHER: SMOLLM2}
        )
        with run_gateway(folder, settings | {"MAXGATE_ENGINE__CARD": CHAT}) as url:
            failed = asyncio.run(measure_swaps(url, options.clients))
        settings = write_cards(folder / "on_demand", options.engine, "on_demand", pair)
        settings |= {"MAXGATE_SWAP__AGE_BOUND": str(options.age_bound)}
        before = (folder / "gateway.log").read_text().count("model: stop")
        with run_gateway(folder, settings) as url:
            outcomes, seconds = asyncio.run(
                alternate(url, list(pair), options.requests, options.alternating_clients)
            )
        log = (folder / "gateway.log").read_text()
    swaps = log.count("model: stop") - before
    allowed = int(seconds / options.age_bound)
    print(
        f"{options.requests} alternating requests of {options.alternating_clients} clients in "
        f"{seconds:.0f} s: {swaps} swaps (allowed {allowed}), {outcomes.failed} failed, longest "
        f"{outcomes.longest:.1f} s {dict(outcomes.statuses)}"
    )
    if failed + outcomes.failed or swaps > allowed:
        print(log[-MAX_LOG:], file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
