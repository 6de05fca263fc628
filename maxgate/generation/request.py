"""What a client wants, in no wire format."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import orjson

from maxgate.generation.catalog import ServedModel
from maxgate.generation.trace import RequestTrace

Role = Literal["system", "user", "assistant"]


class Message(NamedTuple):
    """One turn; `parts` are its pieces of text in order, encoded one by one."""

    role: Role
    parts: tuple[str, ...]


class Tool(NamedTuple):
    """A function that the model may call; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


class TokenIds(NamedTuple):
    """Token ids in the form in which they go to the engine.

    `json` is the inside of a JSON array, such as `b"128000,9906"`. Prompts are joined from pieces
    that come again and again; as bytes, a piece is neither copied number by number nor serialised
    twice.
    """

    json: bytes
    length: int

    @classmethod
    def of(cls, ids: list[int]) -> Self:
        """These ids."""
        return cls(orjson.dumps(ids)[1:-1], len(ids))

    @classmethod
    def join(cls, pieces: Iterable[Self]) -> Self:
        """The pieces, one after the other."""
        filled = [piece for piece in pieces if piece.length]
        return cls(b",".join([p.json for p in filled]), sum([p.length for p in filled]))

    def to_list(self) -> list[int]:
        """The ids as numbers."""
        ids: list[int] = orjson.loads(b"[%b]" % self.json)
        return ids


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen and when to stop.

    `max_tokens` None means: until the context is full. `seed` None means: random.
    """

    temperature: float
    top_p: float
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer to be generated.

    `prompt` and `stop_token_ids` are filled in by the prompts layer; below it, a request without
    `prompt` is one that the engine formats itself.
    """

    model: ServedModel
    messages: tuple[Message, ...]
    sampling: Sampling
    stream: bool
    trace: RequestTrace
    prompt: TokenIds | None = None
    stop_token_ids: tuple[int, ...] = ()
