"""Logging as one JSON object per line, or as text on a terminal, with one line per request.

Prompts, responses and keys are never passed to a logger.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, Literal, TextIO

import orjson
import structlog
from typing_extensions import override

from maxgate.generation.request_record import RequestRecord, RequestSink

LogFormat = Literal["json", "text"]

_MAX_BUFFERED_LINES: Final = 256
_REQUEST_COMPLETED: Final = "request completed"


class LogLines:
    """Writes JSON objects, one per line; structlog can wrap it as a logger.

    Lines from `write_soon` are buffered until the current iteration of the event loop ends, so
    that a busy gateway makes one system call for many requests. A loop that stops still finishes
    its iteration, so no line is lost.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._buffered: list[bytes] = []

    def write_soon(self, fields: dict[str, Any]) -> None:
        """Write these fields at the end of the loop's iteration; at once without a loop."""
        options = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        self._buffered.append(orjson.dumps(fields, option=options))
        if len(self._buffered) == 1:
            try:
                asyncio.get_running_loop().call_soon(self._flush)
            except RuntimeError:
                self._flush()
        elif len(self._buffered) > _MAX_BUFFERED_LINES:
            self._flush()

    def msg(self, line: bytes) -> None:
        """Write this line at once, after the buffered lines."""
        self._buffered.append(line + b"\n")
        self._flush()

    # structlog calls the method named after the level.
    log = debug = info = warning = error = critical = exception = msg

    def _flush(self) -> None:
        lines, self._buffered = self._buffered, []
        self._stream.write(b"".join(lines))
        self._stream.flush()


def configure_logging(log_format: LogFormat | None, stream: TextIO | None = None) -> None:
    """Configure structlog, and the standard library's loggers to write in the same format.

    None selects text if the stream is a terminal, JSON otherwise.
    """
    stream = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    as_text = log_format == "text" or (log_format is None and stream.isatty())
    structlog.configure(
        processors=[*shared, *_renderers(as_text=as_text, colors=stream.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_Factory(stream, as_text=as_text),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderers(as_text=as_text, colors=stream.isatty(), to_text=True),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _Factory:
    def __init__(self, stream: TextIO, *, as_text: bool) -> None:
        # All loggers share one writer, which keeps their lines in order.
        self._logger: structlog.typing.WrappedLogger = (
            structlog.WriteLogger(stream) if as_text else LogLines(stream.buffer)
        )

    def __call__(self, *_: Any) -> structlog.typing.WrappedLogger:
        return self._logger


def _renderers(
    *, as_text: bool, colors: bool, to_text: bool = False
) -> list[structlog.typing.Processor]:
    if as_text:
        # The default formatter prints the variables of each frame, which may contain prompts.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    dumps = _dumps_text if to_text else orjson.dumps
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=dumps),
    ]


def _dumps_text(value: Any, **options: Any) -> str:
    return orjson.dumps(value, **options).decode()


class RequestLog(RequestSink):
    """Writes one line per request.

    JSON lines bypass structlog's processors, which take longer than writing the line.
    """

    def __init__(self) -> None:
        lines = structlog.get_config()["logger_factory"]()
        self._write: Callable[[dict[str, Any]], None] = _write_text
        if isinstance(lines, LogLines):
            self._write = _json_writer(lines)

    @override
    def request_started(self) -> None:
        """Log nothing."""

    @override
    def request_finished(self, record: RequestRecord) -> None:
        first = record.time_to_first_token
        self._write(
            {
                "request_id": record.request_id,
                "method": record.method,
                "route": record.route,
                "status": record.status,
                "outcome": record.outcome,
                "error_code": record.error_code,
                "model": record.model,
                "engine": record.engine,
                "engine_calls": record.engine_calls,
                "retries": record.retries,
                "stream": record.stream,
                "prompt_tokens": record.prompt_tokens,
                "cached_tokens": record.cached_tokens,
                "completion_tokens": record.completion_tokens,
                "time_to_first_token_ms": None if first is None else round(first * 1000, 3),
                "duration_ms": round(record.duration * 1000, 3),
            }
        )


def _write_text(fields: dict[str, Any]) -> None:
    structlog.get_logger().info(_REQUEST_COMPLETED, **fields)


def _json_writer(lines: LogLines) -> Callable[[dict[str, Any]], None]:
    def write(fields: dict[str, Any]) -> None:
        fields["level"] = "info"
        fields["timestamp"] = datetime.now(UTC)
        fields["message"] = _REQUEST_COMPLETED
        lines.write_soon(fields)

    return write
