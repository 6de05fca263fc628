"""A Backend that says what it was told to."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest


class FakeBackend:
    """Yields chunks; an exception among them is raised, `FakeBackend.SILENCE` waits for ever.

    `requests` are those it was asked, `ended` counts streams that were run to their end or closed.
    """

    SILENCE = object()

    def __init__(self, script: Sequence[object]) -> None:
        self._script = script
        self.requests: list[GenerationRequest] = []
        self.ended = 0
        self.waiting = asyncio.Event()

    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """See Backend."""
        self.requests.append(request)
        try:
            for step in self._script:
                if isinstance(step, BaseException):
                    raise step
                if step is self.SILENCE:
                    self.waiting.set()
                    await asyncio.Event().wait()
                assert isinstance(step, Chunk)
                yield step
        finally:
            self.ended += 1
