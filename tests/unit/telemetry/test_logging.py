"""One JSON line per request, whatever is in it."""

import asyncio
import io
import json
import logging

import pytest
import structlog

from maxgate.generation.request_record import RequestRecord
from maxgate.telemetry.logging import LogFormat, RequestLog, configure_logging
from tests.unit.telemetry.test_metrics_store import finished


class Terminal(io.TextIOWrapper):
    """A stream that remembers."""

    def __init__(self, *, tty: bool) -> None:
        self.content = io.BytesIO()
        super().__init__(self.content, write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


def logged(trace: RequestRecord, log_format: LogFormat | None, *, tty: bool = False) -> str:
    stream = Terminal(tty=tty)
    configure_logging(log_format, stream)
    RequestLog().request_finished(trace)
    return stream.content.getvalue().decode()


def test_a_request_is_one_line_of_json() -> None:
    line = json.loads(logged(finished(), None))
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "message": "request",
        "request_id": "req_1",
        "method": "POST",
        "route": "/v1/x",
        "status": 0,
        "outcome": "ok",
        "code": None,
        "model": "small",
        "stream": False,
        "prompt_tokens": 37,
        "completion_tokens": 5,
        "time_to_first_token_ms": 100.0,
        "duration_ms": 1000.0,
    }


def test_a_name_with_line_breaks_stays_on_its_line() -> None:
    forged = 'x\n{"level":"critical"}\x1b[31m\u2028'
    text = logged(finished(model=forged), "json")
    assert text.count("\n") == 1
    assert json.loads(text)["model"] == forged


@pytest.mark.parametrize(
    ("log_format", "tty", "is_json"),
    [(None, True, False), (None, False, True), ("json", True, True), ("text", False, False)],
)
def test_text_is_for_terminals(log_format: LogFormat | None, *, tty: bool, is_json: bool) -> None:
    assert logged(finished(), log_format, tty=tty).startswith("{") == is_json


async def test_lines_of_one_turn_of_the_loop_are_written_together_at_its_end() -> None:
    stream = Terminal(tty=False)
    configure_logging("json", stream)
    log = RequestLog()
    log.request_finished(finished(model="one"))
    log.request_finished(finished(model="two"))
    assert stream.content.getvalue() == b""
    await asyncio.sleep(0)
    models = [json.loads(line)["model"] for line in stream.content.getvalue().splitlines()]
    assert models == ["one", "two"]


def test_a_loop_that_ends_leaves_no_line_unwritten() -> None:
    stream = Terminal(tty=False)
    configure_logging("json", stream)

    async def last_request() -> None:
        RequestLog().request_finished(finished())

    asyncio.run(last_request())
    assert json.loads(stream.content.getvalue())["message"] == "request"


async def test_what_else_is_said_comes_after_the_requests_before_it() -> None:
    stream = Terminal(tty=False)
    configure_logging("json", stream)
    RequestLog().request_finished(finished())
    structlog.get_logger().warning("odd")
    lines = stream.content.getvalue().splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["request", "odd"]


async def test_a_turn_with_very_many_requests_does_not_hold_them_all() -> None:
    stream = Terminal(tty=False)
    configure_logging("json", stream)
    log = RequestLog()
    for _ in range(1000):
        log.request_finished(finished())
    assert stream.content.getvalue().count(b"\n") > 700


def test_other_libraries_log_in_the_same_way() -> None:
    stream = Terminal(tty=False)
    configure_logging("json", stream)
    logging.getLogger("another.library").warning("something %s", "odd")
    line = json.loads(stream.content.getvalue())
    assert (line["message"], line["level"]) == ("something odd", "warning")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_an_exception_is_shown_without_the_values_of_variables(log_format: LogFormat) -> None:
    stream = Terminal(tty=False)
    configure_logging(log_format, stream)

    def fail(prompt: str) -> None:
        raise RuntimeError(len(prompt))

    try:
        fail(chr(97) * 9)
    except RuntimeError as error:
        structlog.get_logger().error("request failed", exc_info=error)
    shown = stream.buffer.getvalue().decode()
    assert "in fail" in shown
    assert "a" * 9 not in shown
