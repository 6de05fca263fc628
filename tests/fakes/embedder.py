"""An Embedder that fails or hangs on order."""

import asyncio
from array import array

from maxgate.errors import UpstreamError
from maxgate.generation.backend import EmbeddingRequest, Embeddings


class FakeEmbedder:
    """Returns each prompt's length as its vector, and counts their tokens.

    Call number `fails` raises UpstreamError; with `hang`, the others wait until cancelled. `ended`
    counts the calls that are over, `most` the calls that ran at once.
    """

    def __init__(self, *, fails: int | None = None, hang: bool = False) -> None:
        self.calls: list[list[int]] = []
        self.running = self.most = self.cancelled = self.ended = 0
        self.one_runs = asyncio.Event()
        self.two_run = asyncio.Event()
        self._fails, self._hang = fails, hang

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """See Embedder."""
        self.calls.append([prompt.length for prompt in request.prompts])
        number = len(self.calls)
        self.running += 1
        self.most = max(self.most, self.running)
        self.one_runs.set()
        if self.running == 2:
            self.two_run.set()
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
