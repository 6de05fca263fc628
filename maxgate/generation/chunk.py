"""What comes back, in order."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "tool_calls"]


class Usage(NamedTuple):
    """Token counts of a response; `completion` includes the end-of-turn token."""

    prompt: int
    completion: int
    cached: int = 0

    def with_attempt(self, other: "Usage") -> "Usage":
        """Add another generation from the same prompt: the prompt is counted once."""
        return Usage(
            max(self.prompt, other.prompt),
            self.completion + other.completion,
            max(self.cached, other.cached),
        )

    def with_prompt(self, other: "Usage") -> "Usage":
        """Add a generation from a different prompt: everything is summed."""
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
        )


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
    """A piece of a response; never modified after creation.

    The last chunk of a choice carries `finish_reason`. `usage`, if known, counts all tokens so
    far; the last one given is final. `has_more` means that the next chunk has already arrived, so
    both can be sent in one write. `choice` is the index of the choice. `token_ids` is filled only
    for requests with tools.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    has_more: bool = False
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0
    token_ids: tuple[int, ...] = ()
