"""A Backend that follows a script."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from typing_extensions import override

from maxgate.generation.backend import Backend
from maxgate.generation.chunk import Chunk
from maxgate.generation.request import GenerationRequest


class FakeBackend(Backend):
    """Yields chunks; an exception among them is raised, `FakeBackend.SILENCE` waits forever.

    With several scripts, requests use them in turn. `requests` are those received, `ended` counts
    the streams that ended or were closed.
    """

    SILENCE = object()

    def __init__(self, *scripts: Sequence[object]) -> None:
        self._scripts = scripts
        self.requests: list[GenerationRequest] = []
        self.ended = 0
        self.waiting = asyncio.Event()

    @override
    async def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        script = self._scripts[len(self.requests) % len(self._scripts)]
        self.requests.append(request)
        try:
            for step in script:
                if isinstance(step, BaseException):
                    raise step
                if step is self.SILENCE:
                    self.waiting.set()
                    await asyncio.Event().wait()
                assert isinstance(step, Chunk)
                yield step
        finally:
            self.ended += 1
