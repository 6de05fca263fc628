"""Processors of log lines: components with their levels, request ids, and stack traces as data."""

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog

from maxgate.errors import StackTrace
from maxgate.generation.request_record import current_record

_MAX_FRAMES: Final = 30
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
LIBRARIES: Final = "libraries"
"""Component of the loggers of the standard library."""
REQUESTS: Final = "requests"
"""Component of the lines of requests."""

# Without the variables of each frame, which may contain prompts and keys.
_describe_stack: Final = structlog.tracebacks.ExceptionDictTransformer(
    show_locals=False, max_frames=_MAX_FRAMES
)


class ComponentFilter:
    """Adds the component, and drops lines below its level.

    The component is the name with which a logger was made. Loggers of the standard library belong
    to `libraries`. `levels` are numbers of the module `logging`.
    """

    def __init__(self, default: int, levels: Mapping[str, int]) -> None:
        self._default = default
        self._levels = levels

    def accepts(self, component: str, level: int) -> bool:
        """Return whether lines of this level are written."""
        return level >= self._levels.get(component, self._default)

    def __call__(
        self, logger: Any, method: str, event: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Process a line."""
        component = event["component"] = getattr(logger, "component", LIBRARIES)
        if not self._levels:  # the wrapper class has compared the level
            return event
        if not self.accepts(component, _LEVELS.get(method, logging.CRITICAL)):
            raise structlog.DropEvent
        return event


def add_request(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the request during which the line is written, if there is one."""
    record = current_record.get()
    if record is not None and not record.finished_at:
        event.setdefault("request_id", record.request_id)
        if record.trace is not None:
            event.setdefault("trace_id", record.trace.hex_id)
    return event


def structure_exception(
    _: Any, __: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace an exception by data: a list of errors, from the last one to its causes."""
    error = event.pop("exc_info", None)
    if isinstance(event.get("exception"), StackTrace):
        error = event["exception"].error
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        stacks = _describe_stack((type(error), error, error.__traceback__))
        event["exception"] = [
            {
                "type": stack["exc_type"],
                "message": stack["exc_value"],
                "is_cause": stack["is_cause"],
                "frames": [
                    {
                        "file": frame["filename"],
                        "line": frame["lineno"],
                        "function": frame["name"],
                    }
                    for frame in stack["frames"]
                ],
            }
            for stack in stacks
        ]
    return event
