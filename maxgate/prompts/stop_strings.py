"""Cut a response at a stop string, even one that is spread over several chunks."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from maxgate.generation.chunk import Chunk, TokenLogprob


async def trim_at_stop(
    chunks: AsyncGenerator[Chunk], stops: Sequence[str]
) -> AsyncGenerator[Chunk]:
    """Pass chunks up to the first stop string, then leave the stream.

    MAX includes the stop string in its response and generates a few tokens after it.
    """
    trimmer, logprobs = StopTrimmer(stops), _PendingLogprobs()
    async with aclosing(chunks):
        async for chunk in chunks:
            text = trimmer.feed(chunk.text)
            reason = "stop" if trimmer.stopped else chunk.finish_reason
            if not trimmer.stopped and reason is not None:
                text += trimmer.flush()
            shown = logprobs.release(chunk.logprobs, text)
            yield replace(chunk, text=text, finish_reason=reason, logprobs=shown)
            if trimmer.stopped:
                return


class StopTrimmer:
    """Takes text in pieces and returns what precedes the first stop string.

    The possible start of a stop string is held back until it is decided.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Return the text that can be shown; set `stopped` once a stop string is complete."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            # The stop string completed first counts, so that chunk boundaries do not matter.
            _, start = min(found)
            self.stopped = True
            self._held = ""
            return text[:start]
        held = self._count_held(text)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """Return the text held back, at the end of the response."""
        text, self._held = self._held, ""
        return text

    def _count_held(self, text: str) -> int:
        """Return the length of the longest suffix that a stop string starts with."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            suffix = text[len(text) - length :]
            if any(stop.startswith(suffix) for stop in self._stops):
                return length
        return 0


class _PendingLogprobs:
    """Holds logprobs back until their tokens have been shown completely."""

    def __init__(self) -> None:
        self._pending: list[TokenLogprob] = []
        self._bytes = 0

    def release(self, logprobs: Sequence[TokenLogprob], text: str) -> tuple[TokenLogprob, ...]:
        if not logprobs and not self._pending:
            return ()
        self._pending += logprobs
        self._bytes += len(text.encode())
        count = 0
        for logprob in self._pending:
            size = len(logprob.encoded)
            if size > self._bytes:
                break
            self._bytes -= size
            count += 1
        released, self._pending = self._pending[:count], self._pending[count:]
        return tuple(released)
