"""Finding tool calls in generated text, as the text arrives.

Llama models write calls in more ways than they were taught. All of these are read, with the name of
a declared tool in place of `f`:

    {"name": "f", "parameters": {...}}        also `arguments`, `type`, a nested `function`,
                                              arguments before the name or as a string of JSON
    {...}; {...}                              several, with `;`, `,`, white space or nothing between
    [{...}, {...}]                            an array of them
    [f(a='x', b=2), f()]                      a list of Python calls
    <function=f>{...}</function>              a function tag
    f.call(query="x")                         a built-in call, at the beginning
    ```json ... ```                           any of them, fenced
    <|python_tag|> ...                        any of them, after the special token

A call begins at the beginning of a line or after the special token. Text before and after calls is
passed on; what merely looks like a call (another name, another shape) is text. Chunks make no
difference, and an answer that is cut anywhere gives the beginning of what the whole one gives.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import orjson
import regex

from maxgate.generation.events import ToolCallDelta
from maxgate.generation.request import Tool
from maxgate.prompts.pending_text import EndOfText, Patterns, PendingText, Reading
from maxgate.prompts.tool_arguments import coerced, may_be_text, read_value, write_value
from maxgate.prompts.tool_heads import BETWEEN_CALLS, CLOSER, END, KEY, REST_OF_OBJECT, SPACE, heads

Event = str | ToolCallDelta


class _NotACall(Exception):  # an event, not an error
    """The text stops being a call here."""


class ToolCallParser:
    """Reads one answer.

    `feed` gives back pieces of text and of calls, in order; `finish` gives back what was held, and
    with `complete` closes a call that the model left open. With `parallel` False what follows the
    first call is dropped; `enough` says that nothing more is wanted.
    """

    def __init__(self, tools: Sequence[Tool], *, parallel: bool = True) -> None:
        self._schemas = {tool.name: tool.parameters for tool in tools}
        self._heads = heads(tuple(self._schemas))
        self._parallel = parallel
        self._in = PendingText()
        self._out = _Events(self._schemas)
        self._complete = False
        self._begun = False
        self._inside_line = False
        self._unclosed = ""
        self.enough = False
        self._reading = self._answer()
        next(self._reading)

    def feed(self, text: str, *, tagged: bool = False) -> list[Event]:
        """What this text adds; `tagged` says that <|python_tag|> came right before it."""
        if tagged and self._begun:
            text = "\n" + text  # a call may begin here, as at the beginning of a line
        if self._inside_line and "\n" not in text:
            return [text] if text else []
        self._begun = True
        self._in.add(text)
        next(self._reading)
        return self._out.taken()

    def finish(self, *, complete: bool) -> list[Event]:
        """What is left once no more text comes; to be called once."""
        self._in.ended, self._complete = True, complete
        next(self._reading)
        return self._out.taken()

    # The grammar, from the outside in. After a yield positions other than `_in.at` are void.

    def _answer(self) -> Reading:
        beginnings = self._heads.at_the_beginning
        try:
            while not self.enough:
                if (yield from self._call(beginnings)):
                    yield from self._skip_to_next_call()
                else:
                    yield from self._line()
                beginnings = self._heads.anywhere
        except EndOfText:
            self._close()
        while True:
            self._in.at = len(self._in.text)
            yield

    def _close(self) -> None:
        if not self._unclosed:
            self._add_text(len(self._in.text))
        elif self._complete:
            self._out.arguments(self._unclosed)

    def _line(self) -> Reading:
        # White space was looked at already, with the character after it: it begins no call.
        self._add_text(self._in.after(SPACE))
        while (end := self._in.text.find("\n", self._in.at)) < 0:
            self._add_text(len(self._in.text))
            self._inside_line = True
            yield from self._in.more()
            self._inside_line = False
        self._add_text(end)

    def _call(self, beginnings: Patterns) -> Generator[None, None, bool]:
        kind, head = yield from self._in.first_of(beginnings)
        if head is None:
            return False
        if kind == "turned":
            return (yield from self._turned_object(head))
        self._in.at = head.end()
        try:
            yield from self._call_after(kind, head)
        except _NotACall:
            self._out.arguments(self._unclosed)
        self._unclosed = ""
        self.enough = not self._parallel
        return True

    def _call_after(self, kind: str, head: regex.Match[str]) -> Reading:
        name, opening = head["name"], head["open"]
        self._out.begin(name)
        match opening:
            case "{" | "(":
                yield from self._arguments("}" if opening == "{" else ")", name)
            case "'" | '"':
                text = yield from self._whole_string(opening)
                self._out.whole_arguments(name, read_value(text))
            case _:
                self._out.arguments("{}")
        if kind == "object":
            ends = (opening != "}") + (head["nested"] is not None)
            for _ in range(ends):
                yield from self._end_of_object()
        if kind == "list" and self._parallel:
            yield from self._rest_of_list()

    def _end_of_object(self) -> Reading:
        _, found = yield from self._in.first_of([("", REST_OF_OBJECT)])
        if found is None:
            raise _NotACall
        self._in.at = found.end()

    def _rest_of_list(self) -> Reading:
        while True:
            _, following = yield from self._in.first_of(self._heads.next_in_list)
            if following is None:
                return
            self._in.at = following.end()
            self._out.begin(following["name"])
            yield from self._arguments(")", following["name"])

    def _turned_object(self, head: regex.Match[str]) -> Generator[None, None, bool]:
        # The name comes after the arguments: nothing can be said before the object is complete.
        skipped = head.start("open") - self._in.at
        raw = yield from self._in.raw_value(skipped)
        value = read_value(raw[skipped:])
        arguments = (
            value.get("parameters", value.get("arguments")) if isinstance(value, dict) else 0
        )
        name = value.get("name", value.get("function")) if isinstance(value, dict) else None
        if name not in self._schemas or not isinstance(arguments, dict):
            return False
        self._in.at += len(raw)
        self._out.begin(name)
        self._out.whole_arguments(name, arguments)
        self._unclosed = ""
        self.enough = not self._parallel
        return True

    def _skip_to_next_call(self) -> Reading:
        while not self.enough:
            if between := BETWEEN_CALLS.match(self._in.text, self._in.at):
                self._in.at = between.end()
            closer = CLOSER.match(self._in.text, self._in.at, partial=True)
            if self._in.at < len(self._in.text) and closer is None:
                return
            if closer is not None and not closer.partial:
                self._in.at = closer.end()
            else:
                yield from self._in.more()

    # Arguments.

    def _arguments(self, close: str, name: str) -> Reading:
        properties = self._schemas[name].get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        self._out.arguments("{")
        self._unclosed = "}"
        separator = ""
        while True:
            found, key = yield from self._in.first_of([("end", END[close]), ("key", KEY[close])])
            if key is None:
                raise _NotACall
            self._in.at = key.end()
            if found == "end":
                self._out.arguments("}")
                self._unclosed = ""
                return
            text = key["key"] if close == ")" else str(read_value(f'"{key["key"]}"'))
            schema = properties.get(text)
            label = f"{separator}{write_value(text)}: "
            yield from self._value(label, schema if isinstance(schema, Mapping) else {})
            separator = ", "

    def _value(self, label: str, schema: Mapping[str, Any]) -> Reading:
        yield from self._in.skip(SPACE)
        quote = self._in.text[self._in.at]
        if quote in "\"'" and may_be_text(schema):
            self._in.at += 1
            self._out.arguments(label + '"')
            self._unclosed = '"}'
            yield from self._in.string(quote, self._out.string)
            self._out.arguments('"')
            self._unclosed = "}"
            return
        raw = yield from self._in.raw_value()
        self._in.at += len(raw)
        self._out.arguments(label + write_value(coerced(read_value(raw.strip()), schema)))

    def _whole_string(self, quote: str) -> Generator[None, None, str]:
        pieces: list[str] = []
        yield from self._in.string(quote, pieces.append)
        return "".join(pieces)

    def _add_text(self, end: int) -> None:
        if end > self._in.at:
            self._out.text(self._in.text[self._in.at : end])
            self._in.at = end


class _Events:
    """What was found, in order."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        self._schemas = schemas
        self._events: list[Event] = []
        self._calls = 0

    def taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def text(self, text: str) -> None:
        self._events.append(text)

    def begin(self, name: str) -> None:
        self._events.append(ToolCallDelta(self._calls, name))
        self._calls += 1

    def arguments(self, json: str) -> None:
        if json:
            self._events.append(ToolCallDelta(self._calls - 1, None, json))

    def string(self, text: str) -> None:
        """A part of a string in the arguments."""
        self.arguments(orjson.dumps(text)[1:-1].decode())

    def whole_arguments(self, name: str, arguments: Any) -> None:
        properties = self._schemas[name].get("properties", {})
        given = arguments if isinstance(arguments, dict) else {}
        fitting = {key: coerced(value, properties.get(key, {})) for key, value in given.items()}
        self.arguments(write_value(fitting))
