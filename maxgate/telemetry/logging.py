"""Logs: one JSON object a line, or text for a terminal; one line per request.

Prompts, answers and keys are never handed to a logger.
"""

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final, Literal, TextIO

import orjson
import structlog

from maxgate.generation.request_record import RequestRecord

_HELD_AT_MOST: Final = 256


class LogLines:
    """Writes one JSON object a line; structlog may use it as the logger that it wraps.

    What is written with `soon` in one turn of the event loop goes out at its end with a single
    system call, so that a busy gateway does not make one per request. Nothing is held longer: a
    loop that ends takes its turn to the end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._held: list[bytes] = []

    def soon(self, fields: dict[str, Any]) -> None:
        """Write these fields when the loop's turn ends; at once where no loop is running."""
        self._held.append(orjson.dumps(fields, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE))
        if len(self._held) == 1:
            try:
                asyncio.get_running_loop().call_soon(self._flush)
            except RuntimeError:
                self._flush()
        elif len(self._held) > _HELD_AT_MOST:
            self._flush()

    def msg(self, line: bytes) -> None:
        """Write this line at once, after what is held."""
        self._held.append(line + b"\n")
        self._flush()

    # The names by which structlog calls it.
    log = debug = info = warning = error = critical = exception = msg

    def _flush(self) -> None:
        held, self._held = self._held, []
        self._stream.write(b"".join(held))
        self._stream.flush()


LogFormat = Literal["json", "text"]


def configure_logging(log_format: LogFormat | None, stream: TextIO | None = None) -> None:
    """Set up structlog and send the standard library's loggers the same way.

    None chooses text where the stream is a terminal and JSON elsewhere.
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
        # One for all, so that what they write stays in order.
        self._logger: structlog.typing.WrappedLogger = (
            structlog.WriteLogger(stream) if as_text else LogLines(stream.buffer)
        )

    def __call__(self, *_: Any) -> structlog.typing.WrappedLogger:
        return self._logger


def _renderers(
    *, as_text: bool, colors: bool, to_text: bool = False
) -> list[structlog.typing.Processor]:
    if as_text:
        # Its own way to show an exception has the variables of every frame, and prompts in them.
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


class RequestLog:
    """A sink that writes one line per request.

    As JSON it goes past structlog's processors, whose work takes longer than writing the line.
    """

    def __init__(self) -> None:
        lines = structlog.get_config()["logger_factory"]()
        self._write: Callable[[dict[str, Any]], None] = _write_text
        if isinstance(lines, LogLines):
            self._write = _json_writer(lines)

    def request_started(self) -> None:
        """See Sink."""

    def request_finished(self, record: RequestRecord) -> None:
        """See Sink."""
        first = record.time_to_first_token
        self._write(
            {
                "request_id": record.request_id,
                "method": record.method,
                "route": record.route,
                "status": record.status,
                "outcome": record.outcome,
                "code": record.error_code,
                "model": record.model,
                "stream": record.stream,
                "prompt_tokens": record.prompt_tokens,
                "completion_tokens": record.completion_tokens,
                "time_to_first_token_ms": None if first is None else round(first * 1000, 3),
                "duration_ms": round(record.duration * 1000, 3),
            }
        )


def _write_text(fields: dict[str, Any]) -> None:
    structlog.get_logger().info("request", **fields)


def _json_writer(lines: LogLines) -> Callable[[dict[str, Any]], None]:
    def write(fields: dict[str, Any]) -> None:
        fields["level"] = "info"
        fields["timestamp"] = datetime.now(UTC)
        fields["message"] = "request"
        lines.soon(fields)

    return write
