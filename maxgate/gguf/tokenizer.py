"""Rebuilding a `tokenizers.Tokenizer` from a GGUF file.

A GGUF file only names its pre-tokenizer. The splitting rules for each name are those of the
models' own tokenizer files: Llama 3 splits digits into groups of up to three, SmolLM splits them
one by one before the GPT-2 rule.
"""

from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from maxgate.gguf.errors import ModelFileError
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

# Pre-tokenizers whose models look a whole word up in the vocabulary before they apply merges.
_IGNORE_MERGES = {"llama-bpe", "llama3", "llama-v3"}


def tokenizer_from_gguf(file: GGUFFile) -> Tokenizer:
    """Rebuild the tokenizer.

    Raises ModelFileError if the file has no tokenizer or one of an unsupported kind.
    """
    build_pre_tokenizer, name = _find_pre_tokenizer(file)
    tokens: list[str] = file.require("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in file.require("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: index for index, token in enumerate(tokens)},
            merges=merges,
            ignore_merges=name in _IGNORE_MERGES,
        )
    )
    tokenizer.pre_tokenizer = build_pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    _add_control_tokens(tokenizer, file, tokens)
    _add_post_processor(tokenizer, file, tokens)
    return tokenizer


def _find_pre_tokenizer(
    file: GGUFFile,
) -> tuple[Callable[[], pre_tokenizers.PreTokenizer], str]:
    model = file.get("tokenizer.ggml.model")
    if model is None:
        raise ModelFileError(f"{file.path} has no tokenizer; use a GGUF file with one.")
    if model != "gpt2":
        raise ModelFileError(
            f"{file.path} has the tokenizer model {model!r}; only byte-level BPE ('gpt2') "
            "is supported. Serve it from its original directory instead."
        )
    name = file.get("tokenizer.ggml.pre", "gpt-2")
    build = _PRE_TOKENIZERS.get(name)
    if build is None:
        known = ", ".join(sorted(_PRE_TOKENIZERS))
        raise ModelFileError(
            f"{file.path} has the pre-tokenizer {name!r}; supported ones are {known}. "
            "Serve it from its original directory instead."
        )
    return build, name


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
    # llama.cpp adds the token unless the file disables it, as SmolLM files do.
    if bos is not None and file.get("tokenizer.ggml.add_bos_token", True):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A",
            pair=f"{tokens[bos]} $A {tokens[bos]} $B",
            special_tokens=[(tokens[bos], int(bos))],
        )
