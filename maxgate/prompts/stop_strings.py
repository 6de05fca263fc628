"""Cutting an answer at a stop string, also one that is spread over several chunks."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from maxgate.generation.chunk import Chunk, TokenLogprob


class StopTrimmer:
    """Takes text in pieces and gives back what may be shown.

    What is given back never holds a stop string or a part of one that was cut at; until it is
    known whether a stop string is beginning, its possible beginning is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """The text that can be shown now; sets `stopped` once a stop string is complete."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # The one that was complete first, so that chunks make no difference.
            _, start = min(found)
            self.stopped = True
            self._held = ""
            return text[:start]
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was held back, once it is known that nothing more comes."""
        text, self._held = self._held, ""
        return text

    def _possible_beginning(self, text: str) -> int:
        # The longest end of the text that a stop string begins with.
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0


async def trimmed(chunks: AsyncGenerator[Chunk], stops: Sequence[str]) -> AsyncGenerator[Chunk]:
    """The chunks up to the first stop string; the stream is left there.

    MAX leaves the stop string in its answer and goes on for a few tokens after it.
    """
    trimmer, tokens = StopTrimmer(stops), _Tokens()
    async with aclosing(chunks):
        async for chunk in chunks:
            text = trimmer.feed(chunk.text)
            reason = "stop" if trimmer.stopped else chunk.finish_reason
            if not trimmer.stopped and reason is not None:
                text += trimmer.flush()
            shown = tokens.shown(chunk.logprobs, text)
            yield replace(chunk, text=text, finish_reason=reason, logprobs=shown)
            if trimmer.stopped:
                return


class _Tokens:
    """Which tokens have been shown whole."""

    def __init__(self) -> None:
        self._waiting: list[TokenLogprob] = []
        self._characters = 0

    def shown(self, tokens: Sequence[TokenLogprob], text: str) -> tuple[TokenLogprob, ...]:
        if not tokens and not self._waiting:
            return ()
        self._waiting += tokens
        self._characters += len(text)
        count = 0
        for token in self._waiting:
            if len(token.token) > self._characters:
                break
            self._characters -= len(token.token)
            count += 1
        shown, self._waiting = self._waiting[:count], self._waiting[count:]
        return tuple(shown)
