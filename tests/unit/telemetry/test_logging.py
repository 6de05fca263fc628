"""One line per request, in JSON or as text."""

import io
import json
import logging

import pytest
import structlog

from maxgate.generation.request_record import RequestRecord
from maxgate.telemetry.logging import (
    LogFormat,
    LogLevel,
    RequestLog,
    configure_logging,
    find_log_writer,
)
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
    assert "in fail" in text
    assert "a" * 9 not in text
