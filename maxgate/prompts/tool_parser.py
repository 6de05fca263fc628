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

from collections.abc import Sequence

from maxgate.generation.request import Tool
from maxgate.prompts.call_events import CallEvents, Event
from maxgate.prompts.call_reader import CallReader
from maxgate.prompts.pending_text import EndOfText, PendingText, Reading
from maxgate.prompts.tool_heads import BETWEEN_CALLS, CLOSER, FENCE, FENCE_LABEL, SPACE, heads


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
        beginning = self._heads.at_the_beginning
        try:
            while not self.enough:
                if (yield from self._calls.read(beginning)):
                    self.enough = not self._parallel
                    yield from self._skip_to_next_call()
                else:
                    yield from self._line()
                beginning = self._heads.anywhere
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
