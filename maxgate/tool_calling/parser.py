"""Find tool calls in generated text as it arrives.

Llama models write calls in more ways than they were taught. All of these are parsed, with `f` the
name of a declared tool:

    {"name": "f", "parameters": {...}}        also `arguments`, `type`, a nested `function`,
                                              arguments before the name or as a string of JSON
    {...}; {...}                              several, separated by `;`, `,`, white space or nothing
    [{...}, {...}]                            an array of them
    [f(a='x', b=2), f()]                      a list of Python calls
    <function=f>{...}</function>              a function tag
    f.call(query="x")                         a built-in call, only at the start of the response
    ```json ... ```                           any of them in a code fence
    <|python_tag|> ...                        any of them after the special token
    <tool_call>...</tool_call>                any of them in the tag of Qwen and Hermes

A call starts at the start of a line, after the special token or in the tag. Text before and after
calls is passed on, and so is text that merely resembles a call (unknown name, different shape). The
result does not depend on chunk boundaries, and a truncated response gives a prefix of the result of
the whole one.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import regex

from maxgate.generation.request import Tool
from maxgate.tool_calling.arguments import ArgumentsReader, CallEvents, EndOfCall, Event
from maxgate.tool_calling.patterns import (
    BETWEEN_CALLS,
    CALL_PLACE,
    CLOSER,
    FENCE,
    FENCE_LABEL,
    REST_OF_OBJECT,
    SPACE,
    compile_starts,
)
from maxgate.tool_calling.text_reader import EndOfText, PendingText, Reading
from maxgate.tool_calling.values import read_value


class ToolCallParser:
    """Parses one response.

    `feed` and `finish` return pieces of text and of calls, in order. With `parallel` False, what
    follows the first call is dropped; a `forced` call is the only one, and ends with its declared
    arguments. `done` is set once no more text is needed.
    """

    def __init__(
        self, tools: Sequence[Tool], *, parallel: bool = True, forced: bool = False
    ) -> None:
        schemas = {tool.name: tool.parameters for tool in tools}
        self._starts = compile_starts(tuple(schemas))
        self._parallel = parallel and not forced
        self._in = PendingText()
        self._out = CallEvents()
        self._calls = _CallReader(
            self._in, self._out, schemas, only_one=not self._parallel, forced=forced
        )
        self._complete = False
        self._started = False
        self._inside_line = False
        self.done = False
        self._reading = self._read_response()
        next(self._reading)

    def feed(self, text: str, *, tagged: bool = False) -> list[Event]:
        """Parse more text; `tagged` means that <|python_tag|> came right before it."""
        if tagged and self._started:
            text = "\n" + text  # a call may start here, as at the start of a line
        if self._inside_line and "\n" not in text and "<" not in text:
            return [text] if text else []
        self._started = True
        self._in.add(text)
        next(self._reading)
        return self._out.take()

    def finish(self, *, complete: bool) -> list[Event]:
        """Return what was held back; `complete` closes a call that is still open. Call once."""
        self._in.ended, self._complete = True, complete
        next(self._reading)
        return self._out.take()

    def _read_response(self) -> Reading:
        start = self._starts.first
        try:
            while not self.done:
                if (yield from self._calls.read(start)):
                    self.done = not self._parallel
                    yield from self._skip_to_next_call()
                else:
                    yield from self._read_line()
                start = self._starts.later
        except EndOfText:
            if not self._out.unclosed:
                self._take_text(len(self._in.text))
            elif self._complete:
                self._out.close()
        while True:
            self._in.at = len(self._in.text)
            yield

    def _read_line(self) -> Reading:
        # The character after the white space was already found to start no call.
        self._take_text(self._in.find_end(SPACE))
        offset = 1
        while (place := self._in.search_partial(CALL_PLACE, offset)) is None or place.partial:
            end = len(self._in.text) if place is None else place.start()
            self._take_text(end)
            offset = 0
            self._inside_line = end == len(self._in.text)
            yield from self._in.wait()
            self._inside_line = False
        self._take_text(place.start())

    def _skip_to_next_call(self) -> Reading:
        while not self.done:
            if between := BETWEEN_CALLS.match(self._in.text, self._in.at):
                self._in.at = between.end()
            closer = self._in.match_partial(CLOSER)
            if self._in.at < len(self._in.text) and closer is None:
                return
            if closer is not None and not closer.partial:
                self._in.at = closer.end()
                if closer[0] == FENCE:
                    yield from self._skip_fence_label()
            else:
                yield from self._in.wait()

    def _skip_fence_label(self) -> Reading:
        label = yield from self._in.match(FENCE_LABEL)
        if label is not None:
            self._in.at = label.end()

    def _take_text(self, end: int) -> None:
        if end > self._in.at:
            self._out.add_text(self._in.text[self._in.at : end])
            self._in.at = end


class _CallReader:
    """Reads calls from the pending text and emits them.

    `schemas` maps tool names to parameters. With `only_one`, a list ends after its first call. The
    arguments of a `forced` call end with the declared ones.
    """

    def __init__(
        self,
        pending: PendingText,
        events: CallEvents,
        schemas: Mapping[str, Mapping[str, Any]],
        *,
        only_one: bool,
        forced: bool,
    ) -> None:
        self._in = pending
        self._out = events
        self._schemas = schemas
        self._arguments = ArgumentsReader(pending, events, schemas, declared_only=forced)
        self._next_in_list = compile_starts(tuple(schemas)).next_in_list
        self._only_one = only_one

    def read(self, start: regex.Pattern[str]) -> Generator[None, None, bool]:
        """Read the call, or list of calls, that starts here; False if none does.

        If the text turns out to be no call, the arguments read so far are closed.
        """
        found = yield from self._in.match(start)
        if found is None:
            return False
        if found["reversed"]:
            return (yield from self._read_reversed(found))
        self._in.at = found.end()
        try:
            yield from self._read_call(found)
        except EndOfCall:
            self._out.close()
        return True

    def _read_call(self, start: regex.Match[str]) -> Reading:
        name, opening = start["name"], start["open"]
        self._out.begin_call(name)
        yield from self._arguments.read(name, opening)
        if start["object"]:
            closing_braces = (opening != "}") + (start["nested"] is not None)
            for _ in range(closing_braces):
                yield from self._end_object()
        if start["list"] and not self._only_one:
            yield from self._read_rest_of_list()

    def _end_object(self) -> Reading:
        found = yield from self._in.match(REST_OF_OBJECT)
        if found is None:
            raise EndOfCall
        self._in.at = found.end()

    def _read_rest_of_list(self) -> Reading:
        while following := (yield from self._in.match(self._next_in_list)):
            self._in.at = following.end()
            self._out.begin_call(following["name"])
            yield from self._arguments.read(following["name"], "(")

    def _read_reversed(self, start: regex.Match[str]) -> Generator[None, None, bool]:
        # The name follows the arguments: nothing can be emitted before the object is complete.
        offset = start.start("open") - self._in.at
        raw = yield from self._in.read_raw_value(offset)
        value = read_value(raw[offset:])
        if not isinstance(value, dict):
            return False
        arguments = value.get("parameters", value.get("arguments"))
        name = value.get("name", value.get("function"))
        if not (isinstance(name, str) and name in self._schemas and isinstance(arguments, dict)):
            return False
        self._in.at += len(raw)
        self._out.begin_call(name)
        self._arguments.emit(name, arguments)
        return True
