"""Synthetic prompts of a given length in tokens.

With the model's tokenizer the length is exact. Without it, a prompt has one common word per token,
which is close for most tokenizers; the report shows the lengths from the usage.
"""

from collections.abc import Callable
from functools import lru_cache
from random import Random
from typing import Final

from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError

_WORDS: Final = (
    "time year people way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line"
)
_MAX_ATTEMPTS: Final = 64

MAX_PROMPT_TOKENS: Final = 2_000_000
"""Upper limit in tokens, above the context length of any model."""

Write = Callable[[int, Random], str]


@lru_cache
def prompt_writer(tokenizer: str | None) -> Write:
    """A function that writes a prompt of a number of tokens.

    Raises ConfigurationError if the tokenizer cannot be loaded.
    """
    words = _WORDS.split()
    if tokenizer is None:
        return lambda tokens, rng: " ".join(rng.choices(words, k=max(1, tokens)))
    try:
        loaded = Tokenizer.from_file(tokenizer)
    except Exception as error:  # tokenizers raises plain Exception
        raise ConfigurationError(f"--tokenizer {tokenizer}: {error}") from error
    return lambda tokens, rng: _write_exact(loaded, words, tokens, rng)


def _write_exact(tokenizer: Tokenizer, words: list[str], tokens: int, rng: Random) -> str:
    text = ""
    for _ in range(_MAX_ATTEMPTS):
        drawn = rng.choices(words, k=max(1, tokens))
        while drawn:
            text = " ".join(drawn)
            excess = len(tokenizer.encode(text, add_special_tokens=False).ids) - tokens
            if excess == 0:
                return text
            if excess < 0:
                break  # removed a word of two tokens; draw again
            del drawn[-max(1, excess // 2) :]
    raise ConfigurationError(
        f"--tokenizer: cannot write a prompt of exactly {tokens} tokens; last attempt: {text!r}"
    )
