"""A new engine is compared with the running one, and clients notice nothing."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.fakes.gateway import SMALL_CARD, TLS, Gateway, start
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import ServerProcess, api_server, plain_uvicorn
from tests.fakes.server import serving
from tests.fakes.waiting import until

GREEDY = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0}
TEXT = "The capital of France is Paris."
START_TIMEOUT = 60
# Fakes respond in microseconds, of which any share is noise.
MIRROR = ("--share", "100", "--mirror", "--requests", "80", "--max-slowdown", "10000")


@dataclass
class Pair:
    """A gateway and a new engine beside its own."""

    gateway: Gateway
    new: FakeMax
    new_url: str

    async def admin(self, method: str, **fields: Any) -> httpx.Response:
        """Send a request to /admin/canary."""
        return await self.gateway.client.request(method, "/admin/canary", **fields)

    async def start(self, **fields: Any) -> None:
        """Start a canary, and wait until the new engine has listed its models."""
        body = {"url": self.new_url, "share": 100, "mirror": True, **fields}
        response = await self.admin("POST", json=body)
        assert response.status_code == 201, response.text

        async def is_running() -> bool:
            return bool((await self.admin("GET")).json()["state"] == "running")

        await until(is_running)

    async def wait_for_copies(self, count: int) -> None:
        """Wait until this many requests have been completed."""

        async def has_completed() -> bool:
            return bool((await self.admin("GET")).json()["completed"] >= count)

        await until(has_completed)

    async def stop(self) -> Any:
        """End the canary and return its result."""
        return (await self.admin("DELETE")).json()


@pytest.fixture
async def pair(small_model: Path) -> AsyncIterator[Pair]:
    """A gateway in one process, and a new engine."""
    new = FakeMax()
    async with serving(new) as url, start() as gateway:
        yield Pair(gateway, new, url)


async def test_equal_engines(pair: Pair) -> None:
    """Equal engines agree, for streams and plain responses; the copy is the client's request."""
    await pair.start()
    for number in range(80):
        response = await pair.gateway.chat(temperature=0, stream=number % 2 == 0)
        assert response.status_code == 200
    await pair.wait_for_copies(80)
    result = await pair.stop()
    agreement = result["agreement"]
    assert (agreement["responses"], agreement["equal"], agreement["mean_prefix"]) == (80, 80, 100)
    assert [one["metric"] for one in result["times"]] == ["ttft", "tpot", "time_per_token"]
    assert [one["samples"] for one in result["times"]] == [40, 40, 40]
    assert result["errors"] == 0
    assert result["checks"][0]["verdict"] == "pass"
    sent, copied = (
        sorted(json.dumps(body, sort_keys=True) for body in engine.requests)
        for engine in (pair.gateway.engine, pair.new)
    )
    assert sent == copied
    await pair.gateway.chat(temperature=0)
    assert len(pair.new.requests) == 80  # the canary has ended


@pytest.mark.parametrize(("gap", "near_ties"), [(0.25, 4), (3, 0)])
async def test_divergence(pair: Pair, gap: float, near_ties: int) -> None:
    """The first different token counts as a near tie if both engines found it nearly as likely."""
    ids = [1000, 1001, 1002, 7, 8, 9, 10]
    pair.new.default = Script(
        ("The", " capital", " of", " x", " y", " z", "."), ids=ids, logprob_gap=0.1
    )
    pair.gateway.engine.default = Script(logprob_gap=gap)
    await pair.start()
    for stream in (True, False) * 2:
        assert "Paris" in (await pair.gateway.chat(temperature=0, stream=stream)).text
    await pair.wait_for_copies(4)
    agreement = (await pair.stop())["agreement"]
    assert agreement["near_ties"] == near_ties
    assert agreement["different"] == 4 - near_ties
    assert (agreement["median_divergence"], agreement["median_gap"]) == (3, gap)
    assert agreement["mean_prefix"] == pytest.approx(300 / 7)
    [question, *_] = [body for body in pair.new.requests if "logprobs" in body]
    assert question["prompt_tokens"][-3:] == [1000, 1001, 1002]
    assert question["max_tokens"] == 1


async def test_no_log_probabilities(pair: Pair) -> None:
    """A difference that no engine explains counts as different."""
    for engine in (pair.new, pair.gateway.engine):
        engine.scripts = [Script(), Script(status=400)]
    pair.new.scripts[0] = Script(("x",), ids=[7])
    await pair.start()
    await pair.gateway.chat(temperature=0)
    await pair.wait_for_copies(1)
    agreement = (await pair.stop())["agreement"]
    assert (agreement["different"], agreement["unexplained"]) == (1, 1)


async def test_slow_engine(pair: Pair) -> None:
    """A slow new engine is found; clients do not wait for it, and its excess is dropped."""
    begins = asyncio.Event()
    pair.new.default = Script(begins=begins)
    await pair.start(max_slowdown=100)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(40):
            tasks.create_task(pair.gateway.chat(temperature=0, stream=True))
    begins.set()
    await pair.wait_for_copies(16)
    result = await pair.stop()
    assert result["skipped"]["busy"] == 24
    assert (result["completed"], pair.new.most_running) == (16, 16)
    assert (result["checks"][1]["name"], result["checks"][1]["verdict"]) == ("slowdown", "fail")
    assert result["verdict"] == "fail"


async def test_other_models(pair: Pair) -> None:
    """An engine without a model of the gateway is reported at once."""
    pair.new.models = ["other"]
    await pair.admin("POST", json={"url": pair.new_url})

    async def is_reported() -> bool:
        return (await pair.admin("GET")).json()["error"] is not None

    await until(is_reported)
    result = await pair.stop()
    assert (result["state"], result["error"]) == (
        "starting",
        "it lists other models (other) than the gateway's engines (smollm2-135m-instruct)",
    )


FAILURES = {
    "refuses": Script(status=503),
    "resets": Script(resets=True),
    "is cut off": Script(cut_after=2),
    "sends garbage": Script(garbage_after=2),
    "rejects": Script(status=400),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failing_engine(pair: Pair, name: str) -> None:
    """Failures of the new engine are its own: clients, metrics and breakers see none of them."""
    pair.new.default = FAILURES[name]
    await pair.start()
    before = (await pair.gateway.client.get("/metrics")).json()
    for _ in range(3):
        response = await pair.gateway.chat(temperature=0, stream=True)
        assert response.text.endswith("data: [DONE]\n\n")
    await pair.wait_for_copies(3)
    result = await pair.stop()
    after = (await pair.gateway.client.get("/metrics")).json()
    assert (result["errors"], result["verdict"]) == (3, "fail")
    assert sum(result["causes"].values()) == 3
    assert before.keys() == after.keys()
    assert "unavailable" not in json.dumps(after)
    assert "upstream_error" not in json.dumps(after)
    [engine] = (await pair.gateway.client.get("/admin/engines")).json()["data"]
    assert (engine["in_flight"], engine["state"]) == (0, "healthy")


async def test_skipped_requests(pair: Pair) -> None:
    """Requests that cannot be compared are counted by reason."""
    await pair.start()
    await pair.gateway.chat(temperature=0.7)
    await pair.gateway.chat(temperature=0, logprobs=True)
    pair.gateway.engine.scripts = [Script(status=400)]
    assert (await pair.gateway.chat(temperature=0)).status_code == 400
    result = await pair.stop()
    expected = {"grammar_or_logprobs": 1, "no_response": 1, "not_greedy": 1}
    assert (result["seen"], result["skipped"], pair.new.requests) == (3, expected, [])
    assert result["verdict"] == "inconclusive"


async def test_stop_string(pair: Pair) -> None:
    """A response that ends at a stop string is compared up to there."""
    await pair.start()
    response = await pair.gateway.chat(temperature=0, stop=" is", stream=True)
    assert "Paris" not in response.text
    await pair.wait_for_copies(1)
    agreement = (await pair.stop())["agreement"]
    assert (agreement["responses"], agreement["equal"]) == (1, 1)


async def test_several_choices(pair: Pair) -> None:
    """Each choice is a request of its own, and so is the response of a request with tools."""
    await pair.start()
    assert len((await pair.gateway.chat(temperature=0, n=3)).json()["choices"]) == 3
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    assert (await pair.gateway.chat(temperature=0, tools=[tool])).status_code == 200
    await pair.wait_for_copies(4)
    agreement = (await pair.stop())["agreement"]
    assert (agreement["responses"], agreement["equal"]) == (4, 4)


async def test_share(pair: Pair) -> None:
    """Without mirror, the share of the requests gets its responses from the new engine."""
    pair.new.default = Script(("New", "."))
    await pair.start(mirror=False, share=40)
    responses = [await pair.gateway.chat() for _ in range(100)]
    texts = [response.json()["choices"][0]["message"]["content"] for response in responses]
    result = await pair.stop()
    assert {*texts} == {TEXT, "New."}
    assert texts.count("New.") == len(pair.new.requests) == result["completed"]
    assert 20 <= result["completed"] <= 60
    assert len(pair.gateway.engine.requests) == 100 - result["completed"]
    assert result["agreement"] is None
    assert [one["metric"] for one in result["times"]] == ["time_per_token"]


async def test_share_of_failing_engine(pair: Pair) -> None:
    """Clients get the response of a normal engine, and a broken engine gets no more requests."""
    pair.new.default = Script(status=503)
    await pair.start(mirror=False)
    for number in range(10):
        response = await pair.gateway.chat(stream=number % 2 == 0)
        assert "Paris" in response.text
    result = await pair.stop()
    assert (result["state"], result["errors"], result["verdict"]) == ("halted", 5, "fail")
    assert len(pair.new.requests) == 5


async def test_share_of_invalid_request(pair: Pair) -> None:
    """A request that every engine rejects is no failure of the new one."""
    pair.new.default = pair.gateway.engine.default = Script(status=400)
    await pair.start(mirror=False)
    assert (await pair.gateway.chat()).status_code == 400
    assert (await pair.stop())["errors"] == 0


async def test_limits() -> None:
    """Limits hold for requests that the new engine serves; copies take nothing."""
    new, rates = FakeMax(), {"requests_per_day": 4, "concurrent_requests": 1}
    async with serving(new) as url, start(limits={"everyone": rates}) as gateway:
        pair = Pair(gateway, new, url)
        await pair.start()
        assert (await gateway.chat(temperature=0)).status_code == 200
        await pair.wait_for_copies(1)
        await pair.stop()
        await pair.start(mirror=False, share=50)
        statuses = [(await gateway.chat()).status_code for _ in range(5)]
        await pair.stop()
        assert statuses == [200, 200, 200, 429, 429]


async def test_one_at_a_time(pair: Pair) -> None:
    """A second canary is refused; without one, there is nothing to read or to end."""
    for method in ("GET", "DELETE"):
        response = await pair.admin(method)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "canary_not_found")
    await pair.start()
    response = await pair.admin("POST", json={"url": pair.new_url})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "canary_exists")
    await pair.stop()
    assert (await pair.admin("GET")).status_code == 404


@asynccontextmanager
async def served(*engines: FakeMax, workers: int = 2) -> AsyncIterator[tuple[ServerProcess, str]]:
    """A gateway process in front of the first engine; yields it and the URL of the second one."""
    async with AsyncExitStack() as stack:
        old, new = [await stack.enter_async_context(serving(engine)) for engine in engines]
        flags = ("--workers", str(workers), "--card", str(SMALL_CARD), "--engine-url", old)
        server = await stack.enter_async_context(api_server(*flags, "--log-format", "json"))
        async with httpx.AsyncClient(
            base_url=server.url, timeout=START_TIMEOUT, verify=TLS
        ) as client:

            async def are_connected() -> bool:
                return bool((await client.get("/admin/engines")).json()["workers"] == workers)

            await until(are_connected, within=START_TIMEOUT)
        yield server, new


async def start_command(server: ServerProcess, *arguments: str) -> asyncio.subprocess.Process:
    """Start `maxgate engines canary`."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maxgate", "engines", "canary", "--gateway", server.url),
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def send_until(server: ServerProcess, ended: asyncio.Event) -> list[str]:
    """Send greedy requests over new connections, to all workers; return all texts."""
    texts = []
    while not ended.is_set():
        async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
            response = await client.post("/v1/chat/completions", json=GREEDY)
            texts.append(response.json()["choices"][0]["message"]["content"])
    return texts


async def run_command(server: ServerProcess, *arguments: str) -> tuple[int | None, str, str]:
    """Run the command under load; returns exit code, stdout and stderr."""
    ended = asyncio.Event()
    command = await start_command(server, *arguments)
    load = asyncio.gather(*(send_until(server, ended) for _ in range(2)))
    stdout, stderr = await command.communicate()
    ended.set()
    assert {text for texts in await load for text in texts} <= {TEXT}
    return command.returncode, stdout.decode(), stderr.decode()


async def test_command(small_model: Path) -> None:
    """The command compares through all workers, and prints tables and a verdict."""
    old, new = FakeMax(), FakeMax()
    async with served(old, new) as (server, url):
        code, stdout, stderr = await run_command(server, "--url", url, *MIRROR)
        assert (code, stdout.splitlines()[-4]) == (0, "verdict: pass"), stdout + stderr
        assert "workers: 2" in stdout
        assert "equal, 0 near ties, 0 different" in stdout
        code, stdout, _ = await run_command(server, "--url", url, *MIRROR, "--json")
        result = json.loads(stdout)
        assert (code, result["verdict"], result["workers"]) == (0, "pass", 2)
        new.default = Script(("x", "."), ids=[7, 8], logprob_gap=5)
        code, stdout, _ = await run_command(server, "--url", url, *MIRROR)
        assert (code, "verdict: fail" in stdout) == (1, True)
        refused = await run_command(server, "--url", "http://127.0.0.1:9", *MIRROR)
        async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
            assert (await client.get("/admin/canary")).status_code == 404
    assert refused[:2] == (4, "")
    assert "the new engine at http://127.0.0.1:9: connection refused" in refused[2]


async def test_no_traffic(small_model: Path) -> None:
    """Without requests to compare, the result is inconclusive, and so is the exit code."""
    async with served(FakeMax(), FakeMax(), workers=1) as (server, url):
        command = await start_command(server, "--url", url, "--mirror", "--max-seconds", "1")
        stdout, _ = await command.communicate()
        assert (command.returncode, "verdict: inconclusive" in stdout.decode()) == (3, True)


async def test_interrupted_command(small_model: Path) -> None:
    """Ctrl-C ends the canary and prints the result so far."""
    async with (
        served(FakeMax(), FakeMax(), workers=1) as (server, url),
        httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
    ):
        command = await start_command(server, "--url", url, "--mirror")
        assert command.stderr is not None
        await command.stderr.readline()  # the first line of its progress
        command.send_signal(signal.SIGINT)
        stdout, _ = await command.communicate()
        assert (command.returncode, "verdict: inconclusive" in stdout.decode()) == (3, True)
        assert (await client.get("/admin/canary")).status_code == 404


async def test_plain_uvicorn(small_model: Path) -> None:
    """Several workers without a parent process refuse a canary."""
    async with serving(FakeMax()) as url:
        settings = {"MAXGATE_ENGINES": url, "MAXGATE_CARDS": str(SMALL_CARD)}
        async with (
            plain_uvicorn("--workers", "2", **settings) as server,
            httpx.AsyncClient(base_url=server.url, timeout=START_TIMEOUT, verify=TLS) as client,
        ):
            responses = [
                await client.post("/admin/canary", json={"url": url}),
                await client.get("/admin/canary"),
                await client.delete("/admin/canary"),
            ]
    assert [response.status_code for response in responses] == [501] * 3
