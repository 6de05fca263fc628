"""One line per request, in JSON or as text."""

import io
import json
import logging
import re
from typing import get_args

import pytest
import structlog

from maxgate.errors import StackTrace
from maxgate.generation.request_record import RequestRecord, current_record
from maxgate.telemetry.logging import (
    LogFormat,
    LogLevel,
    RequestLog,
    configure_logging,
    find_log_writer,
)
from maxgate.telemetry.request_trace import RecordedTrace
from maxgate.telemetry.settings import LogComponent
from tests.conftest import ROOT
from tests.fakes.request_records import finished_record


class FakeStream(io.TextIOWrapper):
    """A log stream that keeps what is written to it."""

    def __init__(self, *, tty: bool = False) -> None:
        self.content = io.BytesIO()
        super().__init__(self.content, write_through=True)
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty

    def read_text(self) -> str:
        """Return all lines that were logged until now."""
        writer = find_log_writer()
        assert writer is not None
        assert writer.flush(5)
        return self.content.getvalue().decode()

    def read_json(self) -> list[dict[str, object]]:
        """Parse each line."""
        return [json.loads(line) for line in self.read_text().splitlines()]


def configure_json() -> FakeStream:
    """Log as JSON to a fake stream."""
    stream = FakeStream()
    configure_logging("json", stream)
    return stream


def format_record(record: RequestRecord, log_format: LogFormat | None, *, tty: bool = False) -> str:
    """Write a line for the record and return it."""
    stream = FakeStream(tty=tty)
    configure_logging(log_format, stream)
    RequestLog().request_finished(record)
    return stream.read_text()


def test_fields() -> None:
    """A request is one JSON object with these fields."""
    line = json.loads(format_record(finished_record(), None))
    assert line.pop("timestamp")
    assert line == {
        "level": "info",
        "message": "request completed",
        "component": "requests",
        "request_id": "req_1",
        "method": "POST",
        "route": "/v1/x",
        "status": 200,
        "outcome": "ok",
        "error_code": None,
        "key_id": None,
        "model": "small",
        "engine": "http://engine",
        "engine_request_id": None,
        "engine_calls": 2,
        "retries": 1,
        "continuations": 0,
        "queue_ms": 250.0,
        "stream": True,
        "prompt_tokens": 37,
        "cached_tokens": 2,
        "completion_tokens": 5,
        "time_to_first_token_ms": 100.0,
        "duration_ms": 1000.0,
    }


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize(
    ("level", "messages"),
    [
        ("debug", ["debug", "info", "request completed", "warning", "library info"]),
        ("info", ["info", "request completed", "warning"]),
        ("warning", ["warning"]),
        ("error", []),
    ],
)
def test_levels(log_format: LogFormat, level: LogLevel, messages: list[str]) -> None:
    """The level applies to all lines; libraries log information at the level `debug` only."""
    stream = FakeStream()
    configure_logging(log_format, stream, level)
    log = structlog.get_logger()
    log.debug("debug")
    log.info("info")
    RequestLog().request_finished(finished_record())
    log.warning("warning")
    logging.getLogger("another.library").info("library info")
    logging.getLogger("another.library").debug("library debug")
    lines = stream.read_text().splitlines()
    assert len(lines) == len(messages)
    assert all(message in line for message, line in zip(messages, lines, strict=True))


def test_line_breaks_are_escaped() -> None:
    """Line breaks and control characters in a value cannot start another line."""
    forged = 'x\n{"level":"critical"}\x1b[31m\u2028'
    text = format_record(finished_record(model=forged), "json")
    assert text.count("\n") == 1
    assert json.loads(text)["model"] == forged


@pytest.mark.parametrize(
    ("log_format", "tty", "is_json"),
    [(None, True, False), (None, False, True), ("json", True, True), ("text", False, False)],
)
def test_default_format(log_format: LogFormat | None, *, tty: bool, is_json: bool) -> None:
    """The default is text on a terminal and JSON elsewhere; a setting overrides it."""
    text = format_record(finished_record(), log_format, tty=tty)
    assert (text.startswith("{"), "request completed" in text) == (is_json, True)


def test_order() -> None:
    """Other log lines come after those of earlier requests."""
    stream = configure_json()
    RequestLog().request_finished(finished_record())
    structlog.get_logger().warning("odd")
    assert [line["message"] for line in stream.read_json()] == ["request completed", "odd"]


@pytest.mark.parametrize("value", ["\ud800", object()], ids=["surrogate", "object"])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_odd_values(value: object, log_format: LogFormat) -> None:
    """A value that JSON or UTF-8 cannot express does not fail its line."""
    stream = FakeStream()
    configure_logging(log_format, stream)
    structlog.get_logger().warning("odd", value=value)
    assert "odd" in stream.read_text()


def test_wrong_arguments() -> None:
    """A record of another library that cannot be formatted is counted as dropped."""
    stream = configure_json()
    logging.getLogger("another.library").warning("%d", "x")
    writer = find_log_writer()
    assert writer is not None
    assert (stream.read_text(), writer.dropped) == ("", 1)


def test_other_libraries() -> None:
    """Loggers of the standard library write the same format."""
    stream = configure_json()
    logging.getLogger("another.library").warning("something %s", "odd")
    [line] = stream.read_json()
    assert (line["message"], line["level"]) == ("something odd", "warning")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_levels_of_components(log_format: LogFormat) -> None:
    """A component may log more or less than the others; its lines name it."""
    stream = FakeStream()
    configure_logging(log_format, stream, "info", {"upstream": "debug", "requests": "error"})
    for component in ("upstream", "limits"):
        structlog.get_logger(component).debug("details")
        structlog.get_logger(component).info("news")
    RequestLog().request_finished(finished_record())
    text = stream.read_text()
    if log_format == "json":
        lines = [json.loads(line) for line in text.splitlines()]
        assert [(line["component"], line["message"]) for line in lines] == [
            ("upstream", "details"),
            ("upstream", "news"),
            ("limits", "news"),
        ]
    else:
        assert [line.split()[-1] for line in text.splitlines()] == [
            "component=upstream",
            "component=upstream",
            "component=limits",
        ]


def test_level_of_libraries() -> None:
    """Other libraries have a level of their own."""
    stream = FakeStream()
    configure_logging("json", stream, "warning", {"libraries": "info"})
    logging.getLogger("another.library").info("news")
    structlog.get_logger("limits").info("news")
    assert [line["component"] for line in stream.read_json()] == ["libraries"]


def test_components_are_known() -> None:
    """Each logger of the gateway has a component that `telemetry.log_levels` accepts."""
    sources = (path.read_text() for path in (ROOT / "maxgate").rglob("*.py"))
    names = {name for source in sources for name in re.findall(r"get_logger\((.*?)\)", source)}
    assert names - {'fields.pop("component"'} <= {f'"{name}"' for name in get_args(LogComponent)}


def test_sampling() -> None:
    """Beyond the limit of a second, lines of successes are left out and counted; others never."""
    stream, times, omitted = configure_json(), [0.0], []
    log = RequestLog(2, lambda: omitted.append(1), time=lambda: times[0])
    failed = finished_record()
    failed.outcome = "timeout"
    for second in (1.0, 1.5, 2.0):
        times[0] = second
        for record in (finished_record(), finished_record(), failed):
            log.request_finished(record)
    outcomes = [line["outcome"] for line in stream.read_json()]
    assert outcomes == ["ok", "ok", "timeout", "timeout", "ok", "ok", "timeout"]
    assert len(omitted) == 2


def test_request_ids() -> None:
    """Lines written during a request have its ids, those of other libraries too."""
    stream, record = configure_json(), RequestRecord("req_1", "POST", "/v1/x", 0.0)
    record.trace = RecordedTrace(0xABC, 0, is_sampled=True)
    token = current_record.set(record)
    structlog.get_logger("upstream").warning("odd")
    logging.getLogger("another.library").warning("odd")
    structlog.get_logger("upstream").warning("odd", request_id="another")
    record.finish(1.0)
    structlog.get_logger("upstream").warning("odd")
    current_record.reset(token)
    ids = [(line.get("request_id"), line.get("trace_id")) for line in stream.read_json()]
    trace = f"{0xABC:032x}"
    assert ids == [("req_1", trace), ("req_1", trace), ("another", trace), (None, None)]


def test_trace_of_a_request() -> None:
    """The line of a traced request has the id of its trace."""
    record = finished_record()
    record.trace = RecordedTrace(0xABC, 0, is_sampled=True)
    assert json.loads(format_record(record, None))["trace_id"] == f"{0xABC:032x}"


def find_number() -> int:
    """Fail because of another error."""
    try:
        return int("x")
    except ValueError as error:
        raise LookupError("no number") from error


@pytest.mark.parametrize("given", ["exc_info", "exception"])
def test_stack_traces(given: str) -> None:
    """JSON lines have stack traces as data, the causes of the error included."""
    stream = configure_json()
    try:
        find_number()
    except LookupError as error:
        value = error if given == "exc_info" else StackTrace(error)
        structlog.get_logger("api").error("request failed", **{given: value})
    [line] = stream.read_json()
    frames = [
        {"file": __file__, "line": code.co_firstlineno + offset, "function": code.co_name}
        for code, offset in [
            (test_stack_traces.__code__, 5),
            (find_number.__code__, 5),
            (find_number.__code__, 3),
        ]
    ]
    message = "invalid literal for int() with base 10: 'x'"
    assert line["exception"] == [
        {"type": "LookupError", "message": "no number", "is_cause": False, "frames": frames[:2]},
        {"type": "ValueError", "message": message, "is_cause": True, "frames": frames[2:]},
    ]


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exceptions(log_format: LogFormat) -> None:
    """A traceback has no values of variables, which may be prompts."""
    stream = FakeStream()
    configure_logging(log_format, stream)

    def fail(prompt: str) -> None:
        raise RuntimeError(len(prompt))

    try:
        fail(chr(97) * 9)
    except RuntimeError as error:
        structlog.get_logger().error("request failed", exc_info=error)
    text = stream.read_text()
    assert ("in fail" if log_format == "text" else '"function":"fail"') in text
    assert "a" * 9 not in text
