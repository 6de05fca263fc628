"""The tokenizer that a GGUF file carries, as a `tokenizers.Tokenizer`.

A GGUF file names its pre-tokenizer instead of describing it. The splitting rules behind the names
are those of the models' own tokenizer files: Llama 3 splits digits in groups of up to three,
SmolLM splits them one by one before the GPT-2 rule.
"""

from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from maxgate.errors import ModelFileError
from maxgate.gguf.reader import GGUFFile

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER_DEFINED = 3, 4


def _llama3() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated"),
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


_PRE_TOKENIZERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "llama-bpe": _llama3,
    "llama3": _llama3,
    "llama-v3": _llama3,
    "smollm": _smollm,
    "gpt-2": _gpt2,
}

# Names under which the token that a merge yields always stands in the vocabulary as a whole.
_IGNORE_MERGES = {"llama-bpe", "llama3", "llama-v3"}


def tokenizer_from_gguf(file: GGUFFile) -> Tokenizer:
    """Rebuild the tokenizer.

    Raises ModelFileError where the file carries none, or one of a kind that is not known here.
    """
    kind, name = _kind(file)
    tokens: list[str] = file.require("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in file.require("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=merges,
            ignore_merges=name in _IGNORE_MERGES,
        )
    )
    tokenizer.pre_tokenizer = kind()
    tokenizer.decoder = decoders.ByteLevel()
    _add_control_tokens(tokenizer, file, tokens)
    _add_post_processor(tokenizer, file, tokens)
    return tokenizer


def _kind(file: GGUFFile) -> tuple[Callable[[], pre_tokenizers.PreTokenizer], str]:
    model = file.get("tokenizer.ggml.model")
    if model is None:
        raise ModelFileError(f"{file.path} carries no tokenizer; use a GGUF file that has one.")
    if model != "gpt2":
        raise ModelFileError(
            f"{file.path} has a tokenizer of the kind {model!r}; only byte-level BPE ('gpt2') "
            "is known. Serve it from its original directory instead."
        )
    name = file.get("tokenizer.ggml.pre", "gpt-2")
    kind = _PRE_TOKENIZERS.get(name)
    if kind is None:
        known = ", ".join(sorted(_PRE_TOKENIZERS))
        raise ModelFileError(
            f"{file.path} uses the pre-tokenizer {name!r}; known are {known}. "
            "Serve it from its original directory instead."
        )
    return kind, name


def _add_control_tokens(tokenizer: Tokenizer, file: GGUFFile, tokens: list[str]) -> None:
    kinds: list[int] = file.get("tokenizer.ggml.token_type", [])
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=False)
            if kind == _CONTROL
        ]
    )
    tokenizer.add_tokens(
        [
            AddedToken(token, special=False, normalized=False)
            for token, kind in zip(tokens, kinds, strict=False)
            if kind == _USER_DEFINED
        ]
    )


def _add_post_processor(tokenizer: Tokenizer, file: GGUFFile, tokens: list[str]) -> None:
    bos = file.get("tokenizer.ggml.bos_token_id")
    # llama.cpp adds the token for Llama 3 unless the file says no; SmolLM files say no.
    if bos is not None and file.get("tokenizer.ggml.add_bos_token", True):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A {tokens[bos]} $B",
            special_tokens=[(tokens[bos], int(bos))],
        )
