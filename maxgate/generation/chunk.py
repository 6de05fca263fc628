"""Chunks: the pieces of a response, in order."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

REPLACEMENT_CHARACTER: Final = "\N{REPLACEMENT CHARACTER}"
"""The text of a token that is a part of a character."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


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
    """A piece of a tool call; `call` is the index of the call in the response.

    The first delta of a call has its name, the others have pieces of its arguments. Joined, the
    pieces are a JSON object.
    """

    call: int
    name: str | None = None
    arguments: str = ""


class Alternative(NamedTuple):
    """A token that could have been generated, with the natural logarithm of its probability."""

    token: str
    logprob: float


class TokenLogprob(NamedTuple):
    """A token with its log probability and the likeliest alternatives.

    The logprob of the first token of a prompt is NaN, as nothing comes before it.
    `id` is the token's id, if known. `data` holds the bytes of a token that is a part of a
    character, if known; those of other tokens are their text in UTF-8.
    """

    token: str
    logprob: float
    top: tuple[Alternative, ...] = ()
    id: int | None = None
    data: bytes | None = None

    @property
    def encoded(self) -> bytes:
        """The token in UTF-8, exact unless it is a part of a character with unknown bytes."""
        return self.token.encode() if self.data is None else self.data


# Neither a NamedTuple nor frozen: both take longer to create, for every token.
@dataclass(slots=True)
class Chunk:
    """A piece of a response; never modified after creation.

    The last chunk of a choice carries `finish_reason`. `usage`, if known, counts all tokens so
    far; the last one given is final. `has_more` means that the next chunk has already arrived, so
    both can be sent in one write. `choice` is the index of the choice. `token_ids` is filled only
    for requests with tools or `with_token_ids`, `prompt_logprobs` only for requests for them.
    """

    text: str = ""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    has_more: bool = False
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0
    token_ids: tuple[int, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()
