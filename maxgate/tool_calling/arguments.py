"""Read the arguments of a call as they arrive, and emit them as JSON."""

from collections.abc import Mapping
from typing import Any

import orjson

from maxgate.generation.chunk import ToolCallDelta
from maxgate.tool_calling.coercion import Coercion
from maxgate.tool_calling.declared import DeclaredArguments
from maxgate.tool_calling.patterns import NEXT_ARGUMENT, SPACE
from maxgate.tool_calling.text_reader import PendingText, Reading, StringReader
from maxgate.tool_calling.values import read_value, write_value

Event = str | ToolCallDelta


class CallEvents:
    """Collects events until they are taken.

    `unclosed` is the text that completes the last call's arguments to a JSON object; "" if they
    are complete.
    """

    def __init__(self) -> None:
        self.unclosed = ""
        self._events: list[Event] = []
        self._calls = 0

    def take(self) -> list[Event]:
        """Return all events since the last take."""
        events, self._events = self._events, []
        return events

    def add_text(self, text: str) -> None:
        """Add text that belongs to no call."""
        self._events.append(text)

    def begin_call(self, name: str) -> None:
        """Begin a call of the tool with this name."""
        self._events.append(ToolCallDelta(self._calls, name))
        self._calls += 1

    def add_arguments(self, json: str) -> None:
        """Add a piece of the last call's arguments."""
        if json:
            self._events.append(ToolCallDelta(self._calls - 1, None, json))

    def add_string(self, text: str) -> None:
        """Add a piece of a string in the last call's arguments."""
        self.add_arguments(orjson.dumps(text)[1:-1].decode())

    def close(self) -> None:
        """Complete the last call's arguments to a JSON object."""
        self.add_arguments(self.unclosed)
        self.unclosed = ""


class EndOfCall(Exception):  # an event, not an error
    """The call ends here, and the text that follows does not belong to it."""


class ArgumentsReader:
    """Reads arguments from the pending text and emits them as JSON.

    `schemas` maps tool names to their parameters. With `declared_only`, a call ends once all
    declared arguments are there, or before an undeclared or repeated one.
    """

    def __init__(
        self,
        pending: PendingText,
        events: CallEvents,
        schemas: Mapping[str, Mapping[str, Any]],
        *,
        declared_only: bool = False,
    ) -> None:
        self._in = pending
        self._strings = StringReader(pending)
        self._out = events
        self._schemas = schemas
        self._declared_only = declared_only

    def read(self, name: str, opening: str | None) -> Reading:
        """Read what follows the character that opened the arguments.

        With any `opening` but a bracket or a quote, the arguments are empty. Raises EndOfCall
        where the text is no longer arguments, or, with `declared_only`, no longer declared ones.
        """
        match opening:
            case "{":
                yield from self._read_members("}", self._schemas[name])
            case "(":
                yield from self._read_members(")", self._schemas[name])
            case "'" | '"':
                self._out.unclosed = "{}"
                pieces: list[str] = []
                yield from self._strings.read_rest(opening, pieces.append)
                self.emit(name, read_value("".join(pieces)))
            case _:
                self._out.add_arguments("{}")

    def emit(self, name: str, value: object) -> None:
        """Emit complete arguments; a value that is not an object becomes an empty one."""
        coercion = Coercion(self._schemas[name])
        given = value.items() if isinstance(value, dict) else ()
        coerced = {key: coercion.coerce(key, member) for key, member in given}
        self._out.unclosed = write_value(coerced)
        self._out.close()

    def _read_members(self, closer: str, schema: Mapping[str, Any]) -> Reading:
        self._out.add_arguments("{")
        self._out.unclosed = "}"
        coercion = Coercion(schema)
        declared = DeclaredArguments(schema) if self._declared_only else None
        given: set[str] = set()
        separator = ""
        while True:
            following = yield from self._in.match(NEXT_ARGUMENT[closer])
            if following is None:
                raise EndOfCall
            self._in.at = following.end()
            key = following["key"]
            if key is None:
                self._out.close()
                return
            if "\\" in key or '"' in key:
                key = str(read_value(f'"{key}"'))
            if declared is not None and declared.must_end_before(key, given):
                raise EndOfCall
            yield from self._read_member(separator, key, coercion)
            given.add(key)
            if declared is not None and declared.all_given(given):
                raise EndOfCall
            separator = ", "

    def _read_member(self, separator: str, key: str, coercion: Coercion) -> Reading:
        label = f"{separator}{write_value(key)}: "
        yield from self._in.skip(SPACE)
        quote = self._in.text[self._in.at]
        if quote in "\"'" and coercion.keeps_strings(key):
            yield from self._stream_string(label, quote)
            return
        raw = yield from self._in.read_raw_value()
        self._in.at += len(raw)
        value = coercion.coerce(key, read_value(raw.strip()))
        self._out.add_arguments(label + write_value(value))

    def _stream_string(self, label: str, quote: str) -> Reading:
        self._in.at += 1
        self._out.add_arguments(label + '"')
        self._out.unclosed = '"}'
        yield from self._strings.read_rest(quote, self._out.add_string)
        self._out.add_arguments('"')
        self._out.unclosed = "}"
