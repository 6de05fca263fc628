"""Reading a call, in whichever way it is written, as it arrives."""

from collections.abc import Generator, Mapping
from typing import Any

import regex

from maxgate.prompts.arguments_reader import ArgumentsReader, NotACall
from maxgate.prompts.call_events import CallEvents
from maxgate.prompts.pending_text import PendingText, Reading
from maxgate.prompts.tool_arguments import read_value
from maxgate.prompts.tool_heads import REST_OF_OBJECT, heads


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

    def read(self, beginning: regex.Pattern[str]) -> Generator[None, None, bool]:
        """Take a call, or a list of calls, that begins here; False where none does.

        A call that turns into something else has the arguments that were read until then.
        """
        head = yield from self._in.match(beginning)
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
