"""Request bodies with an exact number of tokens, the same for every gateway.

A body is a template: `@N@` stands for the number of the request, so that no two prompts are equal,
and `@C@` for the number of its conversation (1 to 64).
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.gateway.max_responses import MODEL
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.prompts.tokenizer import load_tokenizer
from maxgate.settings import load_settings

TokenCounter = Callable[[str], int]
CONVERSATIONS = 64
_DIGITS = 7
_SYSTEM = "You are a helpful assistant."
_PROSE = (
    "the river runs through a valley where people have lived for a very long time and each year "
    "some new house is built near old ones while children walk to school along water under trees "
    "that were planted by their grandparents before any road had come this far into open country"
)
_WORDS = _PROSE.split()


def fill_template(template: bytes, number: int) -> bytes:
    """Build the body of request `number`, as wrk_requests.lua does."""
    conversation = number % CONVERSATIONS + 1
    template = template.replace(b"@C@", b"%0*d" % (_DIGITS, conversation))
    return template.replace(b"@N@", b"%0*d" % (_DIGITS, number))


def load_token_counter() -> TokenCounter:
    """Return a function that counts tokens with the model's tokenizer.

    Raises SystemExit if the model is not prepared.
    """
    card = next(card for card in load_cards([]) if card.name == MODEL)
    file = ModelFiles.locate(load_settings().cache_dir).find_tokenizer(card.tokenizer)
    if file is None:
        raise SystemExit(f"run `maxgate models prepare {MODEL}` first")
    tokenizer = load_tokenizer(file)
    return lambda text: tokenizer.encode(text).length


def write_text(tokens: int, mark: str, count: TokenCounter, seed: int = 0) -> str:
    """Write words that have `tokens` tokens together with the number that replaces `mark`."""
    chance = random.Random(seed)
    words = [mark]
    while (found := count(" ".join(words).replace(mark, "0" * _DIGITS))) < tokens:
        # Most of these words are one token: adding three quarters of the rest never overshoots
        # by much.
        words += chance.choices(_WORDS, k=max(1, (tokens - found) * 3 // 4))
    return " ".join(words)


def build_body(messages: list[dict[str, str]], **fields: Any) -> bytes:
    """Build a chat request of at most 32 tokens."""
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": 32, **fields}).encode()


def build_new_prompt(tokens: int, count: TokenCounter, **fields: Any) -> bytes:
    """Build a request with a constant system prompt and a question that is new each time."""
    question = write_text(tokens - count(_SYSTEM), "@N@", count)
    return build_body(
        [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}], **fields
    )


def build_history(tokens: int, turns: int, count: TokenCounter) -> bytes:
    """Build a conversation of `turns` repeated messages and a short question that is new."""
    question = write_text(26, "@N@", count)
    each = (tokens - count(_SYSTEM) - 26) // turns
    messages = [{"role": "system", "content": _SYSTEM}]
    for turn in range(turns):
        role = "assistant" if turn % 2 else "user"
        messages.append({"role": role, "content": write_text(each, "@C@", count, seed=turn)})
    return build_body([*messages, {"role": "user", "content": question}])


@dataclass(frozen=True)
class Bodies:
    """The templates of all cases."""

    short: bytes
    streamed: bytes
    long: bytes
    longest: bytes
    history: bytes
    invalid: bytes
    unknown_model: bytes

    @classmethod
    def build(cls, count: TokenCounter) -> "Bodies":
        """Build them with token counts of the model's tokenizer."""
        return cls(
            short=build_new_prompt(32, count),
            streamed=build_new_prompt(32, count, stream=True),
            long=build_new_prompt(1_000, count),
            longest=build_new_prompt(8_000, count),
            history=build_history(1_000, 10, count),
            invalid=build_new_prompt(32, count, temperature="hot"),
            unknown_model=build_new_prompt(32, count, model="no-such-model"),
        )
