"""The stand-in's answers, its pace, and what is read of processes."""

import json

from benchmarks.gateway import max_responses
from benchmarks.gateway.max_responses import ResponseOptions
from benchmarks.gateway.pacing import TimerWheel
from benchmarks.gateway.processes import ProcessStat, select_descendants
from benchmarks.gateway.report import replace_section
from benchmarks.gateway.stand_in import Head
from maxgate.upstream.max_api.generation import parse_response
from tests.fakes.requests import generation_request


def events(stream: bytes) -> list[bytes]:
    """What stands behind each `data:`."""
    body = stream.partition(b"\r\n\r\n")[2]
    return [line[6:] for line in body.split(b"\n") if line.startswith(b"data: ")]


def line(pid: int, parent: int, name: str = "a", ticks: tuple[int, int] = (1, 2)) -> ProcessStat:
    """A process of seven resident pages."""
    user, system = ticks
    return ProcessStat(
        f"{pid} ({name}) S {parent} 0 0 0 0 0 0 0 0 0 {user} {system} 0 0 0 0 0 0 0 0 7 0"
    )


def test_a_stream_names_its_tokens_and_counts_them_where_that_is_asked() -> None:
    stream = max_responses.encode_stream(
        ResponseOptions("completions", token_ids=True, usage=True), 3
    )
    *chunks, counted, done = events(stream)
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["token_ids"] for choice in choices] == [[1000], [1001], [1002]]
    assert ["prompt_token_ids" in choice for choice in choices] == [True, False, False]
    assert [choice["finish_reason"] for choice in choices] == [None, None, "stop"]
    assert json.loads(counted)["usage"]["completion_tokens"] == 3
    assert done == b"[DONE]"
    assert stream.endswith(max_responses.LAST_HTTP_CHUNK)


def test_a_stream_is_bare_where_nothing_is_asked() -> None:
    *chunks, done = events(max_responses.encode_stream(ResponseOptions("chat"), 2))
    deltas = [json.loads(chunk)["choices"][0]["delta"]["content"] for chunk in chunks]
    assert (deltas, done) == ([" The", " capital"], b"[DONE]")


def test_a_whole_answer_is_one_that_the_gateway_reads() -> None:
    body = max_responses.encode_generation("completions", 2).partition(b"\r\n\r\n")[2]
    answer = parse_response(body, generation_request())
    assert (answer.text, answer.finish_reason) == (" The capital", "stop")


def test_a_head_is_read_whatever_the_case_of_its_names() -> None:
    assert Head.parse(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 12") == Head(
        b"/v1/completions", 12
    )
    assert Head.parse(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked").length == -1
    assert Head.parse(b"GET /health HTTP/1.1\r\nhost: a").length == 0


def test_streams_advance_at_their_gap_from_when_they_joined_and_miss_nothing() -> None:
    wheel, said = TimerWheel(10), []
    wheel.turn_to(3)
    wheel.add(lambda: said.append("a") or len(said) < 3)
    wheel.turn_to(7)
    wheel.add(lambda: said.append("b") or False)
    wheel.turn_to(12)
    assert said == []
    wheel.turn_to(13)
    assert said == ["a"]
    wheel.turn_to(35)  # late: 17, 23 and 33 are made up for
    assert (said, wheel.size) == (["a", "b", "a"], 0)


def test_a_process_is_counted_with_all_that_come_from_it() -> None:
    stats = [line(1, 0), line(5, 1, "a) (b"), line(6, 5), line(7, 6), line(8, 1)]
    assert [stat.pid for stat in select_descendants(5, stats)] == [5, 6, 7]
    assert (stats[1].cpu_ticks, stats[1].resident_pages) == (3, 7)


def test_a_section_is_replaced_and_the_others_stay() -> None:
    page = replace_section("# Title\n", "One", "1")
    page = replace_section(page, "Two", "2")
    assert replace_section(page, "One", "new") == "# Title\n\n## One\n\nnew\n\n## Two\n\n2\n"
