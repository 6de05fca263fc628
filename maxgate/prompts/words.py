"""Text to token ids word by word, with the ids of words remembered.

A byte-level tokenizer first splits a text into words, by a regular expression, and then encodes
each of them for itself. In `tokenizers` the splitting takes nine tenths of the time, as it keeps
track of where in the text every word came from. Here nobody asks for that. What stays is that the
ids are exactly the tokenizer's own: each word is encoded by it once, and only ASCII text is split
here, where all regular expression engines agree on what a letter, a digit and a space is.
"""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import Any, Final

from tokenizers import Tokenizer, models, normalizers

Encode = Callable[[str], list[int]]

_WORDS_KEPT: Final = 16_384
_LONGEST_WORD_KEPT: Final = 100
# While words are looked up no other thread runs, for two milliseconds at most.
_LONGEST_TEXT: Final = 64_000

_CONTRACTION: Final = r"'s|'t|'re|'ve|'m|'ll|'d"
_GPT2_SPLIT: Final = rf"{_CONTRACTION}| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
# Digits are cut out before the rest is split, so that white space before one ends a text.
_SMOLLM_SPLIT: Final = rf"[0-9]|{_CONTRACTION}| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+(?![^\s0-9])|\s+"
_LLAMA3_SPLIT: Final = (
    rf"(?i:{_CONTRACTION})|[^\r\nA-Za-z0-9]?[A-Za-z]+|[0-9]{{1,3}}| ?[^\sA-Za-z0-9]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class WordEncoder:
    """Encodes ASCII text by its words; as a whole, where it or one of its words is very long."""

    def __init__(self, split: str, encode: Encode) -> None:
        self._words = re.compile(split, re.ASCII).findall
        self._encode = encode
        self._known = lru_cache(_WORDS_KEPT)(encode)

    def encode(self, text: str) -> list[int]:
        """The ids that the tokenizer itself gives."""
        if len(text) > _LONGEST_TEXT or not text.isascii():
            return self._encode(text)
        words = self._words(text)
        if len(max(words, key=len, default="")) > _LONGEST_WORD_KEPT:
            return self._encode(text)
        return list(chain.from_iterable(map(self._known, words)))


def split_of(tokenizer: Tokenizer) -> str | None:
    """How the tokenizer splits ASCII text into words; None where that is not known for sure."""
    if not isinstance(tokenizer.model, models.BPE) or tokenizer.model.dropout:
        return None
    # Canonical composition leaves ASCII as it is.
    if not isinstance(tokenizer.normalizer, normalizers.NFC | None):
        return None
    if tokenizer.pre_tokenizer is None:
        return None
    steps = json.loads(tokenizer.pre_tokenizer.__getstate__())
    return _split_by(steps.get("pretokenizers", [steps]))


def _split_by(steps: list[dict[str, Any]]) -> str | None:
    match steps:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]:
            return _GPT2_SPLIT
        case [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        ]:
            return _SMOLLM_SPLIT
        case [
            {
                "type": "Split",
                "pattern": {"Regex": pattern},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ] if pattern == _LLAMA3_PATTERN:
            return _LLAMA3_SPLIT
        case _:
            return None
