"""Hostile requests against a gateway process.

Every request gets a response in time and in OpenAI's shape, with memory in proportion to its size.
A rejected request reaches no engine, prompts and keys are never logged, and the next request works.
"""

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from maxgate.upstream.settings import derive_id
from tests.conftest import ROOT
from tests.fakes import attacks
from tests.fakes.attacks import KEY, PROMPT, AttackRequest, Attempt
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, TLS, StartGateway
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.raw_client import connect
from tests.fakes.server import serving

pytestmark = pytest.mark.timing

# CPU time of the gateway. Beside other tests, the same work takes up to twice as much of it.
MAX_CPU_SECONDS = 1.0
RESPONSE_TIMEOUT = 10.0
MAX_GROWTH_PER_BYTE = 100
MIN_GROWTH = 8_000_000  # bytes that the allocator takes at once, for small requests too
LEAKS = re.compile(rf"{KEY}|Traceback|site-packages|{ROOT}|/root/|0x[0-9a-f]{{6,}}|line \d+, in ")
ENGINE_STATUSES = {200, 502}  # statuses of requests that may reach the engine


Maximum = tuple[float, str]
"""The highest value so far, and the request that caused it."""


@dataclass
class AttackedGateway:
    """The gateway process, its engine, and the maxima of all requests so far.

    `worker` is found once, because that takes milliseconds.
    """

    server: ServerProcess
    worker: psutil.Process
    engine: FakeMax
    engine_url: str
    fields: dict[str, list[str]]
    statuses: Counter[int] = field(default_factory=Counter)
    max_cpu: Maximum = (0, "")
    max_latency: Maximum = (0, "")
    max_growth_ratio: Maximum = (0, "")
    max_growth: Maximum = (0, "")
    initial_memory: int = 0

    @property
    def _proc(self) -> Path:
        return Path(f"/proc/{self.worker.pid}")

    def cpu_seconds(self) -> float:
        """CPU time of the process so far."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def reset_peak_memory(self) -> int:
        """Reset the peak to the current memory, and return it in bytes."""
        (self._proc / "clear_refs").write_text("5")
        return self._read_memory("VmRSS")

    def peak_memory(self) -> int:
        """Peak memory in bytes since the last reset."""
        return self._read_memory("VmHWM")

    def _read_memory(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def report(self) -> str:
        """Summarize all requests as text."""
        cases = len(attacks.list_ids_with_attempts())
        final_memory = self.reset_peak_memory()
        lines = {
            "attacks": f"{cases} cases, {sum(self.statuses.values())} requests",
            "statuses": ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items())),
            "max CPU time": "{:g} s ({})".format(*self.max_cpu),
            "max latency": "{:g} s ({})".format(*self.max_latency),
            "max memory growth": "{:g} MB ({})".format(*self.max_growth),
            "max growth for the size": "{:g} times ({})".format(*self.max_growth_ratio),
            "memory before, after": f"{self.initial_memory >> 20} MiB, {final_memory >> 20} MiB",
        }
        return "\n".join(f"{name + ':':25}{text}" for name, text in lines.items())

    def build(self, attempt: Attempt) -> Iterator[AttackRequest]:
        """Yield the requests of the attempt, for this gateway."""
        placeholders = {
            "%engine_url%": self.engine_url,
            "%engine_id%": derive_id(self.engine_url),
            "%key%": "a",
            **{f"%{kind}_id%": "a" for kind in ("project", "user", "service_account", "api_key")},
            **{f"%{kind}_id%": "a" for kind in ("rate_limit", "alert")},
        }
        return attempt.requests(self.fields, placeholders)

    async def list_engines(self) -> list[dict[str, Any]]:
        """Return the list of engines, without what depends on the time."""
        async with httpx.AsyncClient(base_url=self.server.url, verify=TLS) as client:
            engines = (await client.get("/admin/engines")).json()["data"]
        return [{**engine, "in_flight": 0, "breakers": {}} for engine in engines]

    async def send(self, request: AttackRequest) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the response; fails if there is a second one."""
        reader, writer = await connect(self.server.url)
        try:
            writer.write(request.head)
            writer.write(request.body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = [line.partition(": ") for line in head.split("\r\n")[1:-2]]
            headers = {name.lower(): value for name, _, value in lines}
            if "content-length" in headers:
                body = await reader.readexactly(int(headers["content-length"]))
            elif head.startswith("HTTP/1.1 204"):
                body = b""
            else:
                body = await reader.readuntil(b"\r\n0\r\n\r\n")
            if headers.get("connection") == "close":
                assert await reader.read() == b""
        finally:
            writer.transport.abort()
        return int(head.split()[1]), headers, body


@pytest.fixture(scope="module")
async def gateway_process(
    request: pytest.FixtureRequest, small_model: Path, embedding_model: Path
) -> AsyncIterator[AttackedGateway]:
    """One gateway process for all cases, without Python's assertions."""
    engine = FakeMax(models=["smollm2-135m-instruct", EMBEDDING_MODEL])
    flags = ("--card", str(SMALL_CARD), "--card", str(EMBEDDING_CARD))
    environment = {"PYTHONOPTIMIZE": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
    async with (
        serving(engine) as engine_url,
        api_server("--engine-url", engine_url, *flags, **environment) as server,
        httpx.AsyncClient(base_url=server.url, verify=TLS) as client,
    ):
        document = (await client.get("/openapi.json")).json()
        fields = {
            name: list_fields(document, route) for name, route in attacks.load_routes().items()
        }
        [worker] = server.find_workers()
        attacked = AttackedGateway(server, worker, engine, engine_url, fields)
        attacked.initial_memory = attacked.reset_peak_memory()
        yield attacked
        assert server.find_workers() == [worker], "the worker died and was replaced"
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            request.config.get_terminal_writer().line(f"\n{attacked.report()}")


def list_fields(document: dict[str, Any], route: dict[str, Any]) -> list[str]:
    """List the request fields of a route in the OpenAPI document."""
    path = re.sub("%([a-z_]+)%", r"{\1}", route["path"])
    method = route.get("method", "POST").lower()
    content = document["paths"][path][method]["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return list(document["components"]["schemas"][name]["properties"])


def test_all_cases() -> None:
    """Every case of the reference is there, with attempts, a pending feature or another test."""
    counts = {"A": 15, "H": 19, "J": 14, "D": 15, "G": 9, "T": 5, "S": 9, "C": 10, "O": 12, "V": 5,
              "L": 4, "M": 2, "X": 2, "Q": 7, "E": 16}  # fmt: skip
    expected = [f"{letter}{n:02}" for letter, last in counts.items() for n in range(1, last + 1)]
    assert (attacks.list_ids(), len(expected)) == (expected, 144)
    for name in set(attacks.list_ids()) - set(attacks.list_ids_with_attempts()):
        case = attacks.load_case(name)
        assert bool(case.get("pending")) != bool(case.get("covered_by")), name
        if covered_by := case.get("covered_by"):
            file, _, test = covered_by.partition("::")
            assert f"def {test}(" in (ROOT / file).read_text(), name


async def test_all_routes(gateway_process: AttackedGateway) -> None:
    """Every route with a request body is attacked."""
    async with httpx.AsyncClient(base_url=gateway_process.server.url, verify=TLS) as client:
        document = (await client.get("/openapi.json")).json()
    with_body = {
        (method.upper(), path.replace("{", "%").replace("}", "%"))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if "requestBody" in operation
    }
    routes = attacks.load_routes().values()
    assert with_body == {(route.get("method", "POST"), route["path"]) for route in routes}


@pytest.mark.parametrize("name", attacks.list_ids_with_attempts())
async def test_attack(gateway_process: AttackedGateway, name: str) -> None:
    """Each attempt gets the expected response within limits; then a plain request works.

    No case leaves a change of the engines.
    """
    engines = await gateway_process.list_engines()
    for attempt in attacks.load_case(name)["attempts"]:
        for request in gateway_process.build(attempt):
            await send_attack(gateway_process, name, attempt, request)
    status, _, _ = await gateway_process.send(next(gateway_process.build(PLAIN)))
    assert status == 200
    assert await gateway_process.list_engines() == engines


PLAIN = Attempt({"to": ["chat"], "fields": {}, "status": 200}, attacks.load_routes())


async def send_attack(
    attacked: AttackedGateway, name: str, attempt: Attempt, request: AttackRequest
) -> None:
    """Send one request and check the response, CPU time, memory and engine calls."""
    output = attempt.spec.get("output")
    attacked.engine.scripts = [] if output is None else [Script(tokens=[output])] * 3
    engine_calls, memory = len(attacked.engine.requests), attacked.reset_peak_memory()
    cpu, started_at = attacked.cpu_seconds(), time.perf_counter()
    async with asyncio.timeout(RESPONSE_TIMEOUT):
        status, headers, body = await attacked.send(request)
    latency, cpu = time.perf_counter() - started_at, attacked.cpu_seconds() - cpu
    growth, size = attacked.peak_memory() - memory, len(request.head) + len(request.body)
    response = f"{name} {request.name}: {status} {body[:300]!r}"

    attacked.statuses[status] += 1
    cause = f"{name} {request.name}, {size} bytes"
    attacked.max_cpu = max(attacked.max_cpu, (round(cpu, 3), cause))
    attacked.max_latency = max(attacked.max_latency, (round(latency, 3), cause))
    attacked.max_growth = max(attacked.max_growth, (round(growth / 1e6, 1), cause))
    if size > 100_000:
        ratio = round(growth / size, 1)
        attacked.max_growth_ratio = max(attacked.max_growth_ratio, (ratio, cause))

    assert status in attempt.statuses, response
    assert cpu < MAX_CPU_SECONDS, response
    assert growth < max(MAX_GROWTH_PER_BYTE * size, MIN_GROWTH), f"{growth} bytes: {response}"
    assert attempt.spec.get("absent", "-") not in headers, headers
    assert not LEAKS.search(body.decode()), response
    if status not in ENGINE_STATUSES:
        assert len(attacked.engine.requests) == engine_calls, response
    if status >= 400:
        check_error(attempt.spec, body, response)


def check_error(spec: dict[str, Any], body: bytes, response: str) -> None:
    """Check that the error has OpenAI's shape and the expected code and field."""
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}, response
    assert error["message"], response
    assert len(body) < 2_000, response
    for name in {"code", "param"} & spec.keys():
        assert error[name] == spec[name], response


async def test_no_secrets_logged(gateway_process: AttackedGateway) -> None:
    """After all attacks, which contain a prompt and a key, no log line or metric has either."""
    server = gateway_process.server
    async with httpx.AsyncClient(base_url=server.url, verify=TLS) as client:
        metrics = (await client.get("/metrics")).text
        series = (await client.get("/metrics", headers={"accept": "text/plain"})).text
    assert len(server.lines) > sum(gateway_process.statuses.values()) / 2
    for text in ("".join(server.lines), metrics, series):
        assert KEY not in text
        assert PROMPT not in text
    lines = [json.loads(line) for line in server.lines]
    assert {line["level"] for line in lines} <= {"info", "warning"}


@pytest.mark.parametrize(
    "text", ["data: [DONE]\n\n", "\r\n\r\nevent: error\n", "\u2028</script>\u0085", "\x00\x1b[2J"]
)
async def test_event_injection(start_gateway: StartGateway, text: str) -> None:
    """Output of the model cannot end its stream or add events to it."""
    engine = FakeMax(scripts=[Script(tokens=["a", text, "b"])])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(stream=True)
    events = response.content.removesuffix(b"\n\n").split(b"\n\n")
    assert events.pop() == b"data: [DONE]"
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == f"a{text}b"
