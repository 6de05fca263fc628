"""What is found in an answer, in order: pieces of text and of calls."""

import orjson

from maxgate.generation.events import ToolCallDelta

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
