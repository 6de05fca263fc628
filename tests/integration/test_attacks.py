"""The attack cases, played against the gateway as a process of its own.

Whatever is sent: an answer in time and in OpenAI's shape, memory in proportion to what was sent,
no call of an engine for what is refused, no prompt and no key in any log, and the next request is
answered.
"""

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.fakes import attacks
from tests.fakes.attacks import KEY, PROMPT, Sent, Try
from tests.fakes.gateway import EMBEDDING_CARD, EMBEDDING_MODEL, SMALL_CARD, StartGateway
from tests.fakes.max_server import FakeMax, Script
from tests.fakes.processes import ServerProcess, api_server
from tests.fakes.server import serving

# Of the gateway's own time, which does not depend on what else the machine does.
SECONDS = 1.0
SECONDS_ON_A_BUSY_MACHINE = 10.0
TIMES_THE_REQUEST = 100
ALLOCATORS_PAGES = 8_000_000
LEAKS = re.compile(rf"{KEY}|Traceback|site-packages|{ROOT}|/root/|0x[0-9a-f]{{6,}}|line \d+, in ")
MAY_ASK_THE_ENGINE = {200, 502}


@dataclass
class Attacked:
    """The gateway, the engine behind it, and what was seen so far."""

    server: ServerProcess
    engine: FakeMax
    fields: dict[str, list[str]]
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0, "")
    slowest_answer: tuple[float, str] = (0, "")
    largest: tuple[float, str] = (0, "")
    most: tuple[float, str] = (0, "")
    rested: int = 0

    @property
    def _proc(self) -> Path:
        return Path(f"/proc/{self.server.process.pid}")

    def seconds(self) -> float:
        """The processor's time that it has taken."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def forget_peak(self) -> int:
        """The memory it takes now; from now on its peak is counted anew."""
        (self._proc / "clear_refs").write_text("5")
        return self._memory("VmRSS")

    def grown(self, before: int) -> int:
        """By how many bytes it took more than `before`, at its peak."""
        return self._memory("VmHWM") - before

    def _memory(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def report(self) -> str:
        """What was seen, for people."""
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        lines = {
            "attacks": f"{len(attacks.played())} cases, {sum(self.statuses.values())} requests",
            "statuses": statuses,
            "most processor time": "{:g} s ({})".format(*self.slowest),
            "slowest answer": "{:g} s ({})".format(*self.slowest_answer),
            "most memory for a request": "{:g} MB ({})".format(*self.most),
            "most memory for its size": "{:g} times ({})".format(*self.largest),
            "memory before, after": f"{self.rested >> 20} MiB, {self.forget_peak() >> 20} MiB",
        }
        return "\n".join(f"{name + ':':27}{words}" for name, words in lines.items())

    async def send(self, sent: Sent) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer; a second answer fails."""
        host, port = self.server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(sent.head)
            writer.write(sent.body)
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
async def attacked(
    request: pytest.FixtureRequest, small_model: Path, embedding_model: Path
) -> AsyncIterator[Attacked]:
    """One gateway for all cases, without Python's assertions."""
    engine = FakeMax(models=["smollm2-135m-instruct", EMBEDDING_MODEL])
    flags = ("--card", str(SMALL_CARD), "--card", str(EMBEDDING_CARD))
    environment = {"PYTHONOPTIMIZE": "1", "MALLOC_TRIM_THRESHOLD_": "65536"}
    async with (
        serving(engine) as engine_url,
        api_server("--engine-url", engine_url, *flags, **environment) as server,
        httpx.AsyncClient(base_url=server.url) as client,
    ):
        document = (await client.get("/openapi.json")).json()
        known = {name: fields_of(document, r["path"]) for name, r in attacks.routes().items()}
        state = Attacked(server, engine, known)
        state.rested = state.forget_peak()
        yield state
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            request.config.get_terminal_writer().line(f"\n{state.report()}")


def fields_of(document: dict[str, Any], path: str) -> list[str]:
    """The fields that the OpenAPI page names."""
    content = document["paths"][path]["post"]["requestBody"]["content"]
    name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return list(document["components"]["schemas"][name]["properties"])


def test_every_case_of_the_reference_is_accounted_for() -> None:
    counts = {"A": 15, "H": 19, "J": 14, "D": 15, "G": 9, "T": 5, "S": 9, "C": 10, "O": 12, "V": 5,
              "L": 4, "M": 2, "X": 2, "Q": 7}  # fmt: skip
    expected = [f"{letter}{n:02}" for letter, most in counts.items() for n in range(1, most + 1)]
    assert (attacks.ids(), len(expected)) == (expected, 128)
    for name in attacks.ids():
        if name not in attacks.played():
            case = attacks.case(name)
            assert bool(case.get("later")) != bool(case.get("shown_by")), name
            if shown_by := case.get("shown_by"):
                file, _, test = shown_by.partition("::")
                assert f"def {test}(" in (ROOT / file).read_text(), name


async def test_every_route_that_takes_a_body_is_attacked(attacked: Attacked) -> None:
    async with httpx.AsyncClient(base_url=attacked.server.url) as client:
        document = (await client.get("/openapi.json")).json()
    with_body = {
        p for p, item in document["paths"].items() if "requestBody" in item.get("post", {})
    }
    assert with_body == {route["path"] for route in attacks.routes().values()}


@pytest.mark.parametrize("name", attacks.played())
async def test_an_attack_is_answered_as_it_should_be(attacked: Attacked, name: str) -> None:
    for attempt in attacks.case(name)["tries"]:
        for sent in attempt.requests(attacked.fields):
            await play(attacked, name, attempt, sent)
    status, _, _ = await attacked.send(next(ORDINARY.requests(attacked.fields)))
    assert status == 200


ORDINARY = Try({"to": ["chat"], "fields": {}, "status": 200}, attacks.routes())


async def play(attacked: Attacked, name: str, attempt: Try, sent: Sent) -> None:
    """Send one request, and look at all that follows from it."""
    answer = attempt.spec.get("answer")
    attacked.engine.scripts = [] if answer is None else [Script(tokens=[answer])] * 3
    asked, memory = len(attacked.engine.requests), attacked.forget_peak()
    before, began = attacked.seconds(), time.perf_counter()
    async with asyncio.timeout(SECONDS_ON_A_BUSY_MACHINE):
        status, headers, body = await attacked.send(sent)
    took, seconds = time.perf_counter() - began, attacked.seconds() - before
    grown, size = attacked.grown(memory), len(sent.head) + len(sent.body)
    shown = f"{name} {sent.name}: {status} {body[:300]!r}"

    attacked.statuses[status] += 1
    what = f"{name} {sent.name}, {size} bytes"
    attacked.slowest = max(attacked.slowest, (round(seconds, 3), what))
    attacked.slowest_answer = max(attacked.slowest_answer, (round(took, 3), what))
    attacked.most = max(attacked.most, (round(grown / 1e6, 1), what))
    if size > 100_000:
        ratio = round(grown / size, 1)
        attacked.largest = max(attacked.largest, (ratio, what))

    assert status in attempt.statuses, shown
    assert seconds < SECONDS, shown
    assert grown < max(TIMES_THE_REQUEST * size, ALLOCATORS_PAGES), f"{grown} bytes: {shown}"
    assert attempt.spec.get("absent", "-") not in headers, headers
    assert not LEAKS.search(body.decode()), shown
    if status not in MAY_ASK_THE_ENGINE:
        assert len(attacked.engine.requests) == asked, shown
    if status >= 400:
        check_error(attempt.spec, body, shown)


def check_error(spec: dict[str, Any], body: bytes, shown: str) -> None:
    """OpenAI's shape, and the code and the field that were expected."""
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}, shown
    assert error["message"], shown
    assert len(body) < 2_000, shown
    for name in {"code", "param"} & spec.keys():
        assert error[name] == spec[name], shown


async def test_prompts_and_keys_are_in_no_log_and_no_metric(attacked: Attacked) -> None:
    """After all the others; what they sent had both."""
    async with httpx.AsyncClient(base_url=attacked.server.url) as client:
        metrics = (await client.get("/metrics")).text
        series = (await client.get("/metrics", headers={"accept": "text/plain"})).text
    assert len(attacked.server.lines) > sum(attacked.statuses.values()) / 2
    for text in ("".join(attacked.server.lines), metrics, series):
        assert KEY not in text
        assert PROMPT not in text
    lines = [json.loads(line) for line in attacked.server.lines if line.startswith("{")]
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert len(attacked.server.lines) - len(lines) < 20  # the announcement at the start


@pytest.mark.parametrize(
    "text", ["data: [DONE]\n\n", "\r\n\r\nevent: error\n", "\u2028</script>\u0085", "\x00\x1b[2J"]
)
async def test_what_a_model_writes_cannot_end_its_stream(
    start_gateway: StartGateway, text: str
) -> None:
    engine = FakeMax(scripts=[Script(tokens=["a", text, "b"])])
    async with start_gateway(engine) as gateway:
        response = await gateway.chat(stream=True)
    events = response.content.removesuffix(b"\n\n").split(b"\n\n")
    assert events.pop() == b"data: [DONE]"
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == f"a{text}b"
