"""Reading the arguments of a call, as they arrive."""

from collections.abc import Mapping
from typing import Any

import orjson

from maxgate.generation.chunk import ToolCallDelta
from maxgate.tool_calling.arguments import read_value, write_value
from maxgate.tool_calling.coercion import Coercion
from maxgate.tool_calling.patterns import NEXT_ARGUMENT, SPACE
from maxgate.tool_calling.text_reader import PendingText, Reading, StringReader

Event = str | ToolCallDelta


class CallEvents:
    """Gathers events until they are taken.

    `unclosed` is what the last call's arguments lack to be a JSON object; "" where they are one.
    """

    def __init__(self) -> None:
        self.unclosed = ""
        self._events: list[Event] = []
        self._calls = 0

    def taken(self) -> list[Event]:
        """Everything since the last time."""
        events, self._events = self._events, []
        return events

    def text(self, text: str) -> None:
        """A piece of text beside the calls."""
        self._events.append(text)

    def begin(self, name: str) -> None:
        """A call of the tool with this name."""
        self._events.append(ToolCallDelta(self._calls, name))
        self._calls += 1

    def arguments(self, json: str) -> None:
        """A piece of the last call's arguments."""
        if json:
            self._events.append(ToolCallDelta(self._calls - 1, None, json))

    def string(self, text: str) -> None:
        """A piece of a string in the last call's arguments."""
        self.arguments(orjson.dumps(text)[1:-1].decode())

    def close(self) -> None:
        """Add what the last call's arguments lack."""
        self.arguments(self.unclosed)
        self.unclosed = ""


class NotACall(Exception):  # an event, not an error
    """The text stops being a call here."""


class ArgumentsReader:
    """Takes arguments from the pending text, and gives them as JSON to the events.

    `schemas` are the tools' parameters, by name.
    """

    def __init__(
        self, pending: PendingText, events: CallEvents, schemas: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._in = pending
        self._strings = StringReader(pending)
        self._out = events
        self._schemas = schemas

    def read(self, name: str, opening: str | None) -> Reading:
        """Take what follows the sign that opened the arguments, if it was one that does.

        Raises NotACall where it cannot be arguments.
        """
        match opening:
            case "{":
                yield from self._members("}", Coercion(self._schemas[name]))
            case "(":
                yield from self._members(")", Coercion(self._schemas[name]))
            case "'" | '"':
                self._out.unclosed = "{}"
                pieces: list[str] = []
                yield from self._strings.rest(opening, pieces.append)
                self.whole(name, read_value("".join(pieces)))
            case _:
                self._out.arguments("{}")

    def whole(self, name: str, value: object) -> None:
        """Arguments that were read elsewhere; a value that is no object counts as none."""
        coercion = Coercion(self._schemas[name])
        given = value.items() if isinstance(value, dict) else ()
        fitting = {key: coercion.argument(key, one) for key, one in given}
        self._out.unclosed = write_value(fitting)
        self._out.close()

    def _members(self, close: str, coercion: Coercion) -> Reading:
        self._out.arguments("{")
        self._out.unclosed = "}"
        separator = ""
        while True:
            following = yield from self._in.match(NEXT_ARGUMENT[close])
            if following is None:
                raise NotACall
            self._in.at = following.end()
            key = following["key"]
            if key is None:
                self._out.close()
                return
            if "\\" in key or '"' in key:
                key = str(read_value(f'"{key}"'))
            yield from self._value(separator, key, coercion)
            separator = ", "

    def _value(self, separator: str, key: str, coercion: Coercion) -> Reading:
        label = f"{separator}{write_value(key)}: "
        yield from self._in.skip(SPACE)
        quote = self._in.text[self._in.at]
        if quote in "\"'" and coercion.keeps_text(key):
            yield from self._string(label, quote)
            return
        raw = yield from self._in.raw_value()
        self._in.at += len(raw)
        value = coercion.argument(key, read_value(raw.strip()))
        self._out.arguments(label + write_value(value))

    def _string(self, label: str, quote: str) -> Reading:
        self._in.at += 1
        self._out.arguments(label + '"')
        self._out.unclosed = '"}'
        yield from self._strings.rest(quote, self._out.string)
        self._out.arguments('"')
        self._out.unclosed = "}"
