"""The fake engine's responses and pace, process statistics and report sections."""

import json
import os
import subprocess
import sys
import time

from benchmarks.gateway import max_responses
from benchmarks.gateway.max_responses import ResponseOptions
from benchmarks.gateway.pacing import TimerWheel
from benchmarks.gateway.processes import ProcessStat, read_cpu_seconds, select_descendants
from benchmarks.gateway.report import replace_section
from benchmarks.gateway.stand_in import Head
from maxgate.upstream.max_api.generation import parse_response
from tests.fakes.requests import generation_request


def read_events(stream: bytes) -> list[bytes]:
    """Return the data of each event."""
    body = stream.partition(b"\r\n\r\n")[2]
    return [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]


def stat_line(pid: int, parent: int, name: str = "a") -> ProcessStat:
    """Statistics of a process with seven resident pages."""
    return ProcessStat(f"{pid} ({name}) S {parent} 0 0 0 0 0 0 0 0 0 1 2 0 0 0 0 0 0 0 0 7 0")


def test_stream() -> None:
    """A stream has token ids and usage if they are requested."""
    stream = max_responses.encode_stream(
        ResponseOptions("completions", token_ids=True, usage=True), 3
    )
    *chunks, usage, done = read_events(stream)
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["token_ids"] for choice in choices] == [[1000], [1001], [1002]]
    assert ["prompt_token_ids" in choice for choice in choices] == [True, False, False]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    assert json.loads(usage)["usage"]["completion_tokens"] == 3
    assert done == b"[DONE]"
    assert stream.endswith(max_responses.LAST_HTTP_CHUNK)


def test_plain_stream() -> None:
    """A stream has only text if nothing else is requested."""
    *chunks, done = read_events(max_responses.encode_stream(ResponseOptions("chat"), 2))
    deltas = [json.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks]
    assert (deltas, done) == ([" The", " capital"], b"[DONE]")


def test_response() -> None:
    """The gateway parses a plain response."""
    body = max_responses.encode_generation("completions", 2).partition(b"\r\n\r\n")[2]
    response = parse_response(body, generation_request())
    assert (response.text, response.finish_reason) == (" The capital", "stop")


def test_head() -> None:
    """Header names are read in any case, and a chunked body has length -1."""
    assert Head.parse(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 12") == Head(
        b"/v1/completions", 12
    )
    assert Head.parse(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked").length == -1
    assert Head.parse(b"GET /health HTTP/1.1\r\nhost: a").length == 0


def test_pacing() -> None:
    """Each stream advances at its interval from its start, and makes up for late turns."""
    wheel, advanced = TimerWheel(10), []
    wheel.turn_to(3)
    wheel.add(lambda: advanced.append("a") or len(advanced) < 3)
    wheel.turn_to(7)
    wheel.add(lambda: advanced.append("b") or False)
    wheel.turn_to(12)
    assert advanced == []
    wheel.turn_to(13)
    assert advanced == ["a"]
    wheel.turn_to(35)  # late: the turns at 17, 23 and 33 are made up for
    assert (advanced, wheel.size) == (["a", "b", "a"], 0)


def test_process_family() -> None:
    """A process is counted with its descendants."""
    stats = [
        stat_line(1, 0),
        stat_line(5, 1, "a) (b"),
        stat_line(6, 5),
        stat_line(7, 6),
        stat_line(8, 1),
    ]
    assert [stat.pid for stat in select_descendants(5, stats)] == [5, 6, 7]
    assert stats[1].resident_pages == 7


def test_cpu_seconds() -> None:
    """The CPU time of a process is that of its own clock; an ended one has none."""
    began = time.process_time()
    assert began <= read_cpu_seconds(os.getpid()) <= time.process_time()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert read_cpu_seconds(ended.pid) == 0


def test_report_section() -> None:
    """A section is replaced, and the others stay."""
    page = replace_section("# Title\n", "One", "1")
    page = replace_section(page, "Two", "2")
    assert replace_section(page, "One", "new") == "# Title\n\n## One\n\nnew\n\n## Two\n\n2\n"
