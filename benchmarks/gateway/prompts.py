"""Request bodies of a known number of tokens, the same for every gateway.

A body is a template: `@N@` stands for the request's number, so that no two prompts are the same,
and `@C@` for its conversation's, of which there are 64.
"""

import json
import random
from collections.abc import Callable
from typing import Any

from benchmarks.gateway.max_answers import MODEL
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.prompts.tokenizer import load_tokenizer
from maxgate.settings import load_settings

CountTokens = Callable[[str], int]
CONVERSATIONS = 64
_WIDTH = 7
_SYSTEM = "You are a helpful assistant."
_WORDS = [
    "the",
    "river",
    "runs",
    "through",
    "a",
    "valley",
    "where",
    "people",
    "have",
    "lived",
    "for",
    "a",
    "very",
    "long",
    "time",
    "and",
    "each",
    "year",
    "some",
    "new",
    "house",
    "is",
    "built",
    "near",
    "old",
    "ones",
    "while",
    "children",
    "walk",
    "to",
    "school",
    "along",
    "water",
    "under",
    "trees",
    "that",
    "were",
    "planted",
    "by",
    "their",
    "grandparents",
    "before",
    "any",
    "road",
    "had",
    "come",
    "this",
    "far",
    "into",
    "open",
    "country",
]


def filled(template: bytes, number: int) -> bytes:
    """The body of request `number`, as post.lua makes it."""
    conversation = number % CONVERSATIONS + 1
    return template.replace(b"@C@", _digits(conversation)).replace(b"@N@", _digits(number))


def _digits(number: int) -> bytes:
    return b"%0*d" % (_WIDTH, number)


def model_tokens() -> CountTokens:
    """How many tokens the model sees in a text; the model has to be prepared."""
    card = next(card for card in load_cards([]) if card.name == MODEL)
    file = ModelFiles.locate(load_settings().cache_dir).find_tokenizer(card.tokenizer)
    if file is None:
        raise SystemExit(f"run `maxgate models prepare {MODEL}` first")
    tokenizer = load_tokenizer(file)
    return lambda text: tokenizer.encode(text).length


def text_of(tokens: int, mark: str, count: CountTokens, seed: int = 0) -> str:
    """Words that make `tokens` tokens together with the number that `mark` stands for."""
    chance = random.Random(seed)
    words = [mark]
    while count(" ".join(words).replace(mark, "0" * _WIDTH)) < tokens:
        missing = tokens - count(" ".join(words).replace(mark, "0" * _WIDTH))
        # Most of these words are one token; a few too few at a time never overshoots by much.
        words += chance.choices(_WORDS, k=max(1, missing * 3 // 4))
    return " ".join(words)


def body(messages: list[dict[str, str]], **fields: Any) -> bytes:
    """A chat request for a short answer."""
    return json.dumps({"model": MODEL, "messages": messages, "max_tokens": 32, **fields}).encode()


def fresh(tokens: int, count: CountTokens, **fields: Any) -> bytes:
    """A system prompt that repeats and one question that nobody has asked before."""
    question = text_of(tokens - count(_SYSTEM), "@N@", count)
    return body(
        [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}], **fields
    )


def history(tokens: int, turns: int, count: CountTokens) -> bytes:
    """A conversation of `turns` that was heard before, and a new short question."""
    question = text_of(26, "@N@", count)
    each = (tokens - count(_SYSTEM) - 26) // turns
    messages = [{"role": "system", "content": _SYSTEM}]
    for turn in range(turns):
        role = "assistant" if turn % 2 else "user"
        messages.append({"role": role, "content": text_of(each, "@C@", count, seed=turn)})
    return body([*messages, {"role": "user", "content": question}])
