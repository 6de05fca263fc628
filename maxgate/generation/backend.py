"""The one seam: everything that generates, and everything that wraps what generates."""

from collections.abc import AsyncGenerator
from typing import Protocol

from maxgate.generation.events import Chunk
from maxgate.generation.request import GenerationRequest


class Backend(Protocol):
    """Answers a request piece by piece."""

    def stream(self, request: GenerationRequest) -> AsyncGenerator[Chunk]:
        """The answer's chunks, in order; a request that does not stream gets one chunk.

        What the stream holds (a slot, a connection) it gives back when it ends, fails, is closed
        or is cancelled, before that call returns; so consumers close it with `aclosing`.

        Raises GatewayError, before the first chunk where at all possible.
        """
        ...
