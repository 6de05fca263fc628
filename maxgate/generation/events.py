"""What comes back, in order."""

from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length"]


class Usage(NamedTuple):
    """Tokens counted; `completion` includes the token that ended the answer."""

    prompt: int
    completion: int
    cached: int = 0


class Chunk(NamedTuple):
    """A piece of an answer.

    The piece that ends the answer carries `finish_reason`. `usage` counts everything up to here,
    where that is known; the last one given is the answer's.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
