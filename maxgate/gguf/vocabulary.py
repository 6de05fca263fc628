"""The vocabulary of a GGUF file, checked."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.pre_tokenizer import PRE_TOKENIZERS
from maxgate.gguf.reader import GGUFFile

# Values of `tokenizer.ggml.token_type`: normal, unknown, control, user-defined, unused and byte.
_KINDS: Final = range(1, 7)
_CONTROL, _USER_DEFINED = 3, 4
_NAMED_END_TOKENS: Final = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a byte-level BPE tokenizer by id, its merges and its special tokens.

    `pre_tokenizer` is a name in PRE_TOKENIZERS. `special_ids` has ids by name, such as `bos`.
    """

    pre_tokenizer: str
    tokens: list[str]
    kinds: list[int]
    merges: list[tuple[str, str]]
    special_ids: dict[str, int]
    adds_bos: bool

    @property
    def control_tokens(self) -> list[str]:
        """The tokens that no text may encode to."""
        return [t for t, kind in zip(self.tokens, self.kinds, strict=True) if kind == _CONTROL]

    @property
    def user_defined_tokens(self) -> list[str]:
        """Further tokens that are not split."""
        return [t for t, kind in zip(self.tokens, self.kinds, strict=True) if kind == _USER_DEFINED]

    @property
    def end_ids(self) -> list[int]:
        """The ids that end generation: end of sequence, of turn and of message."""
        ids = {self.special_ids[name] for name in ("eos", "eot", "eom") if name in self.special_ids}
        # Older files name only one of Llama 3's three.
        known = set(_NAMED_END_TOKENS)
        return sorted(ids | {i for i, token in enumerate(self.tokens) if token in known})

    def find_token(self, name: str) -> str | None:
        """Return a special token by name, such as `bos`; None if the model has none."""
        index = self.special_ids.get(name)
        return None if index is None else self.tokens[index]


def read_vocabulary(file: GGUFFile) -> Vocabulary:
    """Read the vocabulary.

    Raises ModelFileError if the file has none, one of another kind, or a damaged one.
    """
    model = file.read_text("tokenizer.ggml.model")
    if not model:
        raise ModelFileError(f"{file.path} has no tokenizer; use a GGUF file with one.")
    if model != "gpt2":
        kind = "SentencePiece ('llama')" if model == "llama" else repr(model)
        raise ModelFileError(
            f"{file.path} has the tokenizer model {kind}; only byte-level BPE ('gpt2') "
            "is supported. Serve the model from its original directory instead."
        )
    pre_tokenizer = _read_pre_tokenizer(file)
    tokens = _read_texts(file, "tokenizer.ggml.tokens")
    ids = {token: index for index, token in enumerate(tokens)}
    if len(ids) < len(tokens):
        twice = next(token for index, token in enumerate(tokens) if ids[token] != index)
        raise _damaged(file, f"its vocabulary has the token {twice!r} twice")
    kinds = file.require("tokenizer.ggml.token_type")
    # MAX skips the array by this type when it reads the file.
    if not isinstance(kinds, np.ndarray) or kinds.dtype != np.int32 or len(kinds) != len(tokens):
        raise _damaged(file, "'tokenizer.ggml.token_type' is not a list of one int32 per token")
    if not np.isin(kinds, _KINDS).all():
        raise _damaged(file, "'tokenizer.ggml.token_type' has an unknown type")
    special_ids = _read_special_ids(file, len(tokens))
    adds_bos = file.read_flag("tokenizer.ggml.add_bos_token", default=True)
    vocabulary = Vocabulary(
        pre_tokenizer, tokens, kinds.tolist(), _read_merges(file, ids), special_ids, adds_bos
    )
    if not vocabulary.end_ids:
        raise ModelFileError(
            f"{file.path} names no token that ends a response (tokenizer.ggml.eos_token_id); "
            "set it in a copy with gguf-new-metadata, or use another file."
        )
    return vocabulary


def _read_pre_tokenizer(file: GGUFFile) -> str:
    name = file.read_text("tokenizer.ggml.pre")
    if not name:
        raise ModelFileError(
            f"{file.path} does not name its pre-tokenizer, as files converted before May 2024. "
            "Download a newer one, or add the model's own, such as llama-bpe for Llama 3, with: "
            "gguf-new-metadata --pre-tokenizer llama-bpe OLD.gguf NEW.gguf"
        )
    if name not in PRE_TOKENIZERS:
        raise ModelFileError(
            f"{file.path} has the pre-tokenizer {name!r}; supported ones are "
            f"{', '.join(sorted(PRE_TOKENIZERS))}. Serve the model from its original directory "
            "instead."
        )
    return name


def _read_texts(file: GGUFFile, key: str) -> list[str]:
    texts = file.require(key)
    if not isinstance(texts, list) or not texts:
        raise _damaged(file, f"{key!r} is not a list of strings")
    return texts


def _read_special_ids(file: GGUFFile, size: int) -> dict[str, int]:
    prefix, suffix = "tokenizer.ggml.", "_token_id"
    return {
        key.removeprefix(prefix).removesuffix(suffix): file.read_integer(key, 0, size - 1)
        for key in file.keys
        if key.startswith(prefix) and key.endswith(suffix)
    }


def _read_merges(file: GGUFFile, ids: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for number, merge in enumerate(_read_texts(file, "tokenizer.ggml.merges")):
        left, _, right = merge.partition(" ")
        if left not in ids or right not in ids or left + right not in ids:
            raise _damaged(file, f"'tokenizer.ggml.merges'[{number}] has an unknown token")
        merges.append((left, right))
    return merges


def _damaged(file: GGUFFile, detail: str) -> ModelFileError:
    return ModelFileError(f"{file.path} is damaged: {detail}. Download it again.")
