"""What comes back, in order."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "tool_calls"]


class Usage(NamedTuple):
    """Tokens counted; `completion` includes the token that ended the answer."""

    prompt: int
    completion: int
    cached: int = 0


class ToolCallDelta(NamedTuple):
    """A piece of a tool call: first its number and its name, then pieces of its arguments.

    The pieces of one call's arguments are, joined, a JSON object.
    """

    call: int
    name: str | None = None
    arguments: str = ""


class Alternative(NamedTuple):
    """A token and how likely it was, as a natural logarithm."""

    token: str
    logprob: float


class TokenLogprob(NamedTuple):
    """A generated token, how likely it was, and what else might have stood in its place."""

    token: str
    logprob: float
    top: tuple[Alternative, ...] = ()


# Not a NamedTuple, nor frozen: both take longer to make, for every token.
@dataclass(slots=True)
class Chunk:
    """A piece of an answer, not changed once it was made.

    The piece that ends the answer carries `finish_reason`. `usage` counts everything up to here,
    where that is known; the last one given is the answer's. `more` says that the next piece is
    there already, so that both can be sent together. `choice` numbers the answers of a request
    that has several. `token_ids` are there where the request has tools.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    more: bool = False
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0
    token_ids: tuple[int, ...] = ()
