"""An Embedder that can fail or hang."""

import asyncio
from array import array

from maxgate.errors import UpstreamError
from maxgate.generation.backend import EmbeddingRequest, Embeddings


class FakeEmbedder:
    """Returns each prompt's length as its vector, and the number of tokens.

    Call number `fails` raises UpstreamError; with `hang`, all others wait until cancelled. `ended`
    counts finished calls; `max_running` is the highest number of concurrent calls.
    """

    def __init__(self, *, fails: int | None = None, hang: bool = False) -> None:
        self.calls: list[list[int]] = []
        self.running = self.max_running = self.cancelled = self.ended = 0
        self.first_started = asyncio.Event()
        self.second_started = asyncio.Event()
        self._fails, self._hang = fails, hang

    async def embed(self, request: EmbeddingRequest) -> Embeddings:

        self.calls.append([prompt.length for prompt in request.prompts])
        number = len(self.calls)
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        self.first_started.set()
        if self.running == 2:
            self.second_started.set()
        try:
            await asyncio.sleep(0)
            if number == self._fails:
                raise UpstreamError("boom")
            if self._hang:
                await asyncio.Event().wait()
            vectors = tuple(array("f", [prompt.length]) for prompt in request.prompts)
            return Embeddings(vectors, prompt_tokens=sum(self.calls[number - 1]))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
            self.ended += 1
