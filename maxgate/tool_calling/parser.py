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

import regex

from maxgate.generation.request import Tool
from maxgate.tool_calling.arguments import read_value
from maxgate.tool_calling.arguments_reader import ArgumentsReader, CallEvents, Event, NotACall
from maxgate.tool_calling.patterns import (
    BETWEEN_CALLS,
    CLOSER,
    FENCE,
    FENCE_LABEL,
    REST_OF_OBJECT,
    SPACE,
    heads,
)
from maxgate.tool_calling.text_reader import EndOfText, PendingText, Reading


class CallReader:
    """Takes calls from the pending text, and gives them to the events.

    `schemas` are the tools' parameters, by name. With `one` a list ends after its first call.
    """

    def __init__(
        self,
        pending: PendingText,
        events: CallEvents,
        schemas: Mapping[str, Mapping[str, Any]],
        *,
        one: bool,
    ) -> None:
        self._in = pending
        self._out = events
        self._schemas = schemas
        self._arguments = ArgumentsReader(pending, events, schemas)
        self._next_in_list = heads(tuple(schemas)).next_in_list
        self._one = one

    def read(self, certain_prefix: regex.Pattern[str]) -> Generator[None, None, bool]:
        """Take a call, or a list of calls, that begins here; False where none does.

        A call that turns into something else has the arguments that were read until then.
        """
        head = yield from self._in.match(certain_prefix)
        if head is None:
            return False
        if head["turned"]:
            return (yield from self._turned_object(head))
        self._in.at = head.end()
        try:
            yield from self._after(head)
        except NotACall:
            self._out.close()
        return True

    def _after(self, head: regex.Match[str]) -> Reading:
        name, opening = head["name"], head["open"]
        self._out.begin(name)
        yield from self._arguments.read(name, opening)
        if head["object"]:
            ends = (opening != "}") + (head["nested"] is not None)
            for _ in range(ends):
                yield from self._end_of_object()
        if head["list"] and not self._one:
            yield from self._rest_of_list()

    def _end_of_object(self) -> Reading:
        found = yield from self._in.match(REST_OF_OBJECT)
        if found is None:
            raise NotACall
        self._in.at = found.end()

    def _rest_of_list(self) -> Reading:
        while following := (yield from self._in.match(self._next_in_list)):
            self._in.at = following.end()
            self._out.begin(following["name"])
            yield from self._arguments.read(following["name"], "(")

    def _turned_object(self, head: regex.Match[str]) -> Generator[None, None, bool]:
        # The name comes after the arguments: nothing can be said before the object is complete.
        skipped = head.start("open") - self._in.at
        raw = yield from self._in.raw_value(skipped)
        value = read_value(raw[skipped:])
        if not isinstance(value, dict):
            return False
        arguments = value.get("parameters", value.get("arguments"))
        name = value.get("name", value.get("function"))
        if not (isinstance(name, str) and name in self._schemas and isinstance(arguments, dict)):
            return False
        self._in.at += len(raw)
        self._out.begin(name)
        self._arguments.whole(name, arguments)
        return True


class ToolCallParser:
    """Reads one answer.

    `feed` gives back pieces of text and of calls, in order; `finish` gives back what was held, and
    with `complete` closes a call that the model left open. With `parallel` False what follows the
    first call is dropped; `enough` says that nothing more is wanted.
    """

    def __init__(self, tools: Sequence[Tool], *, parallel: bool = True) -> None:
        schemas = {tool.name: tool.parameters for tool in tools}
        self._heads = heads(tuple(schemas))
        self._parallel = parallel
        self._in = PendingText()
        self._out = CallEvents()
        self._calls = CallReader(self._in, self._out, schemas, one=not parallel)
        self._complete = False
        self._begun = False
        self._inside_line = False
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

    def _answer(self) -> Reading:
        certain_prefix = self._heads.at_the_beginning
        try:
            while not self.enough:
                if (yield from self._calls.read(certain_prefix)):
                    self.enough = not self._parallel
                    yield from self._skip_to_next_call()
                else:
                    yield from self._line()
                certain_prefix = self._heads.anywhere
        except EndOfText:
            self._close()
        while True:
            self._in.at = len(self._in.text)
            yield

    def _close(self) -> None:
        if not self._out.unclosed:
            self._add_text(len(self._in.text))
        elif self._complete:
            self._out.close()

    def _line(self) -> Reading:
        # White space was looked at already, with the character after it: it begins no call.
        self._add_text(self._in.after(SPACE))
        while (end := self._in.text.find("\n", self._in.at)) < 0:
            self._add_text(len(self._in.text))
            self._inside_line = True
            yield from self._in.more()
            self._inside_line = False
        self._add_text(end)

    def _skip_to_next_call(self) -> Reading:
        while not self.enough:
            if between := BETWEEN_CALLS.match(self._in.text, self._in.at):
                self._in.at = between.end()
            closer = self._in.begun(CLOSER)
            if self._in.at < len(self._in.text) and closer is None:
                return
            if closer is not None and not closer.partial:
                self._in.at = closer.end()
                if closer[0] == FENCE:
                    yield from self._skip_label()
            else:
                yield from self._in.more()

    def _skip_label(self) -> Reading:
        label = yield from self._in.match(FENCE_LABEL)
        if label is not None:
            self._in.at = label.end()

    def _add_text(self, end: int) -> None:
        if end > self._in.at:
            self._out.text(self._in.text[self._in.at : end])
            self._in.at = end
