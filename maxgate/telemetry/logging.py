"""Logging as one JSON object per line, or as text on a terminal, with one line per request.

Prompts, responses and keys are never passed to a logger.
"""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, Literal, TextIO

import orjson
import structlog
from typing_extensions import override

from maxgate.generation.request_record import RequestRecord, RequestSink
from maxgate.telemetry.log_processors import (
    LIBRARIES,
    REQUESTS,
    ComponentFilter,
    add_request,
    structure_exception,
)
from maxgate.telemetry.log_writer import LogWriter, find_log_stream, open_log_writer
from maxgate.telemetry.settings import LogComponent, LogLevel

LogFormat = Literal["json", "text"]

NO_LEVELS: Final[Mapping[LogComponent, LogLevel]] = MappingProxyType({})
_REQUEST_COMPLETED: Final = "request completed"


class LogLines:
    """A logger for structlog, whose processors have rendered each line as JSON."""

    def __init__(self, writer: LogWriter, component: str = "gateway") -> None:
        self.writer = writer
        self.component = component

    def write_fields(self, fields: dict[str, Any]) -> None:
        """Write these fields as a JSON object."""
        self.writer.write(_dump_json(fields) + b"\n")

    def msg(self, line: bytes | str) -> None:
        """Write this line."""
        self.writer.write(_encode(line))

    # structlog calls the method named after the level.
    log = debug = info = warning = error = critical = exception = msg


class TextLines(LogLines):
    """The same for lines rendered as text."""


def configure_logging(
    log_format: LogFormat | None,
    stream: TextIO | None = None,
    level: LogLevel = "info",
    levels: Mapping[LogComponent, LogLevel] = NO_LEVELS,
) -> None:
    """Configure structlog, and the standard library's loggers to write in the same format.

    None selects text if the stream is a terminal, JSON otherwise. `levels` are those of components
    with a level of their own. Other libraries log warnings and errors only, and information at the
    level `debug`.
    """
    numbers = logging.getLevelNamesMapping()
    minimum = numbers[level.upper()]
    own: dict[str, int] = {component: numbers[name.upper()] for component, name in levels.items()}
    stream = stream or find_log_stream()
    writer = open_log_writer(stream)
    shared: list[structlog.typing.Processor] = [
        ComponentFilter(minimum, own),
        add_request,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_text = log_format == "text" or (log_format is None and stream.isatty())
    structlog.configure(
        processors=[*shared, *_renderers(as_text=as_text, colors=stream.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(min([minimum, *own.values()])),
        logger_factory=_Factory(TextLines(writer) if as_text else LogLines(writer)),
        cache_logger_on_first_use=True,
    )
    handler = _LogHandler(writer)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(as_text=as_text, colors=stream.isatty(), to_text=True),
            ],
            foreign_pre_chain=shared,
        )
    )
    others = logging.INFO if level == "debug" else max(minimum, logging.WARNING)
    others = own.get(LIBRARIES, others)
    logging.basicConfig(handlers=[handler], level=others, force=True)
    logging.captureWarnings(capture=True)


def logs_json() -> bool:
    """Return whether log lines are JSON objects."""
    factory = structlog.get_config()["logger_factory"]
    return isinstance(factory, _Factory) and not isinstance(factory.lines, TextLines)


def find_log_writer() -> LogWriter | None:
    """Return the writer in use, or None if logging was not configured here."""
    factory = structlog.get_config()["logger_factory"]
    return factory.lines.writer if isinstance(factory, _Factory) else None


class _Factory:
    """Returns the loggers of components; they share a writer, which keeps lines in order."""

    def __init__(self, lines: LogLines) -> None:
        self.lines = lines

    def __call__(self, component: str = "gateway") -> LogLines:
        return type(self.lines)(self.lines.writer, component)


class _LogHandler(logging.Handler):
    def __init__(self, writer: LogWriter) -> None:
        super().__init__()
        self._writer = writer

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(_encode(self.format(record)))
        except Exception:  # noqa: BLE001  # such as a record with wrong arguments
            self._writer.drop()


def _renderers(
    *, as_text: bool, colors: bool, to_text: bool = False
) -> list[structlog.typing.Processor]:
    if as_text:
        # The default formatter prints the variables of each frame, which may contain prompts.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [
        structure_exception,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_dump_text if to_text else _dump_json),
    ]


def _dump_json(value: Any, **_: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_UTC_Z, default=repr)
    except TypeError:  # such as a lone surrogate
        return json.dumps(value, default=repr).encode()


def _dump_text(value: Any, **_: Any) -> str:
    return _dump_json(value).decode()


def _encode(line: bytes | str) -> bytes:
    content = line.encode(errors="backslashreplace") if isinstance(line, str) else line
    return content + b"\n"


class RequestLog(RequestSink):
    """Writes one line per request.

    Of the requests that succeed, at most `max_successes` per second have a line; `on_omission` is
    called for the others.

    JSON lines bypass structlog's processors, which take longer than writing the line.
    """

    def __init__(
        self,
        max_successes: int | None = None,
        on_omission: Callable[[], None] = lambda: None,
        *,
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._max_successes = max_successes
        self._on_omission = on_omission
        self._time = time
        self._second = 0
        self._successes = 0
        config = structlog.get_config()
        self._write: Callable[[dict[str, Any]], None] = _write_text
        if logs_json():
            is_written = _find_filter(config).accepts(REQUESTS, logging.INFO)
            self._write = _json_writer(config["logger_factory"]()) if is_written else _write_nothing

    @override
    def request_started(self) -> None:
        """Log nothing."""

    def _is_omitted(self) -> bool:
        if (second := int(self._time())) != self._second:
            self._second, self._successes = second, 0
        self._successes += 1
        return self._max_successes is not None and self._successes > self._max_successes

    @override
    def request_finished(self, record: RequestRecord) -> None:
        if self._max_successes is not None and record.outcome == "ok" and self._is_omitted():
            self._on_omission()
            return
        first = record.time_to_first_token
        self._write(
            {
                "component": REQUESTS,
                "request_id": record.request_id,
                **({} if record.trace is None else {"trace_id": record.trace.hex_id}),
                "method": record.method,
                "route": record.route,
                "status": record.status,
                "outcome": record.outcome,
                "error_code": record.error_code,
                "key_id": record.key_id,
                "model": record.model,
                "engine": record.engine,
                "engine_request_id": record.engine_request_id,
                "engine_calls": record.engine_calls,
                "retries": record.retries,
                "continuations": record.continuations,
                "queue_ms": round(record.queue_seconds * 1000, 3),
                "stream": record.stream,
                "prompt_tokens": record.prompt_tokens,
                "cached_tokens": record.cached_tokens,
                "completion_tokens": record.completion_tokens,
                "time_to_first_token_ms": None if first is None else round(first * 1000, 3),
                "duration_ms": round(record.duration * 1000, 3),
            }
        )


def _write_text(fields: dict[str, Any]) -> None:
    structlog.get_logger(fields.pop("component")).info(_REQUEST_COMPLETED, **fields)


def _write_nothing(_: dict[str, Any]) -> None:
    """Drop the line: its level is not written."""


def _find_filter(config: dict[str, Any]) -> ComponentFilter:
    return next(one for one in config["processors"] if isinstance(one, ComponentFilter))


def _json_writer(lines: LogLines) -> Callable[[dict[str, Any]], None]:
    def write(fields: dict[str, Any]) -> None:
        fields["level"] = "info"
        fields["timestamp"] = datetime.now(UTC)
        fields["message"] = _REQUEST_COMPLETED
        lines.write_fields(fields)

    return write
