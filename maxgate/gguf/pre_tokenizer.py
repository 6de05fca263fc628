"""Pre-tokenizers by the names that GGUF files use.

A GGUF file only names its pre-tokenizer. The splitting rules for each name are those of the
models' own tokenizer files: Llama 3 splits digits into groups of up to three, SmolLM splits them
one by one before the GPT-2 rule.
"""

from collections.abc import Callable
from typing import Final

from tokenizers import Regex, pre_tokenizers

LLAMA3_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _llama3() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _smollm() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


PRE_TOKENIZERS: Final[dict[str, Callable[[], pre_tokenizers.PreTokenizer]]] = {
    "llama-bpe": _llama3,
    "llama3": _llama3,
    "llama-v3": _llama3,
    "smollm": _smollm,
    "gpt-2": _gpt2,
}

# Pre-tokenizers whose models look a whole word up in the vocabulary before they apply merges.
IGNORE_MERGES: Final = {"llama-bpe", "llama3", "llama-v3"}
