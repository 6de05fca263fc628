"""Rebuilding a `tokenizers.Tokenizer` from a GGUF file."""

from collections.abc import Callable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.pre_tokenizer import IGNORE_MERGES, PRE_TOKENIZERS
from maxgate.gguf.reader import GGUFFile

_CONTROL, _USER_DEFINED = 3, 4


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
            ignore_merges=name in IGNORE_MERGES,
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
    build = PRE_TOKENIZERS.get(name)
    if build is None:
        known = ", ".join(sorted(PRE_TOKENIZERS))
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
