"""The Llama model in a GGUF file, checked: everything that is read fits together.

A setting that is unknown, or that MAX's Llama does not implement, is an error: MAX would ignore it
and generate wrong text. The names are those of llama.cpp (`gguf-py/gguf/constants.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from gguf import GGML_QUANT_SIZES, dequantize

from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.reader import GGUFFile
from maxgate.gguf.vocabulary import Vocabulary, read_vocabulary

_MAX_LAYERS: Final = 1000
_MAX_CONTEXT: Final = 100_000_000
_MAX_WIDTH: Final = 1_000_000
# Bound the memory that the rows of one attention head need.
_MAX_HIDDEN, _MAX_HEAD_DIM = 65_536, 512
# Settings that are read, here or in config.py.
_READ: Final = frozenset(
    {
        "vocab_size",
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "attention.layer_norm_rms_epsilon",
        "attention.sliding_window",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.type",
    }
)
# The only values that change nothing for a Llama model; none for settings without an effect.
_NEUTRAL: Final[dict[str, tuple[object, ...]]] = {
    "attention.causal": (True,),
    "attention.clamp_kqv": (0,),
    "attention.layer_norm_epsilon": (),
    "attention.max_alibi_bias": (0,),
    "attention.scale": (0,),
    "attn_logit_softcapping": (0,),
    "embedding_scale": (0, 1),
    "expert_count": (0,),
    "expert_used_count": (0,),
    "final_logit_softcapping": (0,),
    "logit_scale": (0, 1),
    "nextn_predict_layers": (0,),
    "pooling_type": (0,),
    "residual_scale": (0, 1),
    "rope.scale_linear": (1,),
    "rope.scaling.attn_factor": (0, 1),
    "rope.scaling.factor": (),  # without a type
    "rope.scaling.finetuned": (),
    "rope.scaling.original_context_length": (),
    "tensor_data_layout": ("Meta AI original pth",),
    "use_parallel_residual": (False,),
}
# The same for settings of the tokenizer. Those without an effect here are SentencePiece's, or of
# prompts, which the gateway builds.
_TOKENIZER: Final[dict[str, tuple[object, ...]]] = {
    "add_sep_token": (False,),
    "normalizer.lowercase": (False,),
    "normalizer.strip_accents": (False,),
} | dict.fromkeys(
    (
        *("model", "pre", "tokens", "token_type", "token_type_count", "merges", "scores"),
        *("add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces"),
        *(f"{name}_token_id" for name in ("bos", "eos", "eot", "eom", "unknown", "padding")),
        *(f"{name}_token_id" for name in ("seperator", "cls", "mask")),
        *(f"{name}_token_id" for name in ("prefix", "suffix", "middle")),
        *(f"fim_{name}_token_id" for name in ("pre", "suf", "mid", "pad", "rep", "sep")),
    ),
    (),
)
_KNOWN: Final[dict[str, tuple[object, ...]]] = {
    **{f"llama.{name}": () for name in _READ},
    **{f"llama.{name}": values for name, values in _NEUTRAL.items()},
    **{f"tokenizer.ggml.{name}": values for name, values in _TOKENIZER.items()},
    **dict.fromkeys(("general.architecture", "general.type", "general.alignment"), ()),
    **dict.fromkeys(("split.no", "split.count", "tokenizer.chat_template"), ()),
}


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The sizes of a Llama model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    context_length: int
    vocabulary: int

    @property
    def head_dim(self) -> int:
        """The size of an attention head."""
        return self.hidden // self.heads

    def list_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of each tensor that a model needs."""
        hidden, kv = self.hidden, self.kv_heads * self.head_dim
        yield "token_embd.weight", (self.vocabulary, hidden)
        for layer in range(self.layers):
            prefix = f"blk.{layer}."
            yield prefix + "attn_norm.weight", (hidden,)
            yield prefix + "attn_q.weight", (hidden, hidden)
            yield prefix + "attn_k.weight", (kv, hidden)
            yield prefix + "attn_v.weight", (kv, hidden)
            yield prefix + "attn_output.weight", (hidden, hidden)
            yield prefix + "ffn_norm.weight", (hidden,)
            yield prefix + "ffn_gate.weight", (self.feed_forward, hidden)
            yield prefix + "ffn_up.weight", (self.feed_forward, hidden)
            yield prefix + "ffn_down.weight", (hidden, self.feed_forward)
        yield "output_norm.weight", (hidden,)

    def list_optional_tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield the name and shape of each tensor that a model may have."""
        yield "output.weight", (self.vocabulary, self.hidden)
        yield "rope_freqs.weight", (self.head_dim // 2,)


class LlamaFile:
    """A GGUF file with a complete Llama model that MAX can serve.

    Raises ModelFileError that names what is missing, damaged, unknown or not supported.
    """

    def __init__(self, path: Path) -> None:
        self.file = GGUFFile(path)
        self.path = path
        self._check_kind()
        self._check_settings()
        self.vocabulary: Vocabulary = read_vocabulary(self.file)
        self.shape = self._read_shape()
        self._check_tensors()

    def _check_kind(self) -> None:
        architecture = self.file.require("general.architecture")
        kind = self.file.read_text("general.type", "model")
        if architecture != "llama" or kind != "model":
            found = (
                f"the architecture {architecture!r}"
                if architecture != "llama"
                else f"the type {kind!r}"
            )
            raise ModelFileError(
                f"{self.path} has {found}; only Llama models ('llama') can be prepared. "
                "Serve it from its original directory instead, if MAX supports it."
            )
        self.file.read_integer("general.quantization_version", 2, 2, default=2)

    def _check_settings(self) -> None:
        if self.file.get("llama.expert_count"):
            raise ModelFileError(
                f"{self.path} is a mixture of experts, which MAX does not serve as a Llama model."
            )
        for key in sorted(self.file.keys):
            if key in _KNOWN:
                self._check_neutral(key, _KNOWN[key])
            elif key.startswith(("llama.", "tokenizer.ggml.")):
                raise ModelFileError(
                    f"{self.path} has the setting {key!r} ({_shorten(self.file.get(key))}), which "
                    "is unknown here and may change the model's output. Serve the model from its "
                    "original directory instead."
                )
            elif meant := next((name for name in _KNOWN if _is_damaged_name(key, name)), None):
                raise ModelFileError(
                    f"{self.path} is damaged: its metadata has {key!r}, which seems to be "
                    f"{meant!r}. Download it again."
                )

    def _check_neutral(self, key: str, values: tuple[object, ...]) -> None:
        value = self.file.get(key)
        if values and not any(_equals(value, neutral) for neutral in values):
            raise ModelFileError(
                f"{self.path} has {_shorten(value)} as {key!r}, which MAX's Llama does not "
                f"implement (only {' or '.join(map(repr, values))}). Use another model."
            )

    def _read_shape(self) -> LlamaShape:
        read, vocabulary = self.file.read_integer, len(self.vocabulary.tokens)
        hidden = read("llama.embedding_length", 1, _MAX_HIDDEN)
        heads = read("llama.attention.head_count", 1, hidden)
        head_dim = hidden // heads
        read("llama.vocab_size", vocabulary, vocabulary, default=vocabulary)
        if hidden % heads or head_dim % 2 or head_dim > _MAX_HEAD_DIM:
            raise ModelFileError(
                f"{self.path} has {heads} attention heads for {hidden} dimensions, which must give "
                f"each an equal and even number of at most {_MAX_HEAD_DIM}. Download it again."
            )
        for name in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
            found = read(f"llama.{name}", 1, _MAX_WIDTH, default=head_dim)
            if found != head_dim:
                raise ModelFileError(
                    f"{self.path} has {found} as 'llama.{name}'; MAX's Llama has heads of "
                    f"{head_dim} dimensions ({hidden} for {heads} heads). Use another model."
                )
        kv_heads = read("llama.attention.head_count_kv", 1, heads, default=heads)
        if heads % kv_heads:
            raise ModelFileError(
                f"{self.path} has {heads} attention heads for {kv_heads} key-value heads, which do "
                "not divide them."
            )
        context_length = read("llama.context_length", 1, _MAX_CONTEXT)
        window = read("llama.attention.sliding_window", 0, _MAX_CONTEXT, default=0)
        if 0 < window < context_length:
            raise ModelFileError(
                f"{self.path} has a sliding window of {window} tokens "
                "('llama.attention.sliding_window'), which MAX's Llama does not implement. "
                "Use another model."
            )
        return LlamaShape(
            hidden=hidden,
            layers=read("llama.block_count", 1, _MAX_LAYERS),
            heads=heads,
            kv_heads=kv_heads,
            feed_forward=read("llama.feed_forward_length", 1, _MAX_WIDTH),
            context_length=context_length,
            vocabulary=vocabulary,
        )

    def _check_tensors(self) -> None:
        needed = dict(self.shape.list_tensors())
        missing = [name for name in needed if self.file.tensor(name) is None]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise ModelFileError(
                f"{self.path} is incomplete: it lacks the tensor {missing[0]}{more} of the "
                f"{len(needed)} that its {self.shape.layers} layers need. Download it again."
            )
        allowed = needed | dict(self.shape.list_optional_tensors())
        for tensor in self.file.tensors:
            shape = allowed.get(tensor.name)
            if shape is None:
                is_bias = tensor.name.endswith(".bias")
                detail = "a bias" if is_bias else f"not part of {self.shape.layers} Llama layers"
                raise ModelFileError(
                    f"{self.path} has the tensor {tensor.name!r}, which is {detail} and which "
                    "MAX's Llama does not use. Use another model."
                )
            if tensor.shape != shape:
                raise ModelFileError(
                    f"{self.path} has the tensor {tensor.name!r} with the shape {tensor.shape} "
                    f"instead of {shape}, which its settings imply. Download it again."
                )
            if not is_readable(tensor.encoding):
                raise ModelFileError(
                    f"{self.path} has the tensor {tensor.name!r} in the encoding "
                    f"{tensor.encoding.name}, which cannot be converted. Download the model in "
                    "another encoding, such as Q4_K_M or Q8_0."
                )


def is_readable(encoding: Any) -> bool:
    """Return whether the package gguf dequantizes an encoding."""
    _, block_bytes = GGML_QUANT_SIZES[encoding]
    try:
        dequantize(np.zeros((1, block_bytes), np.uint8), encoding)
    except NotImplementedError:
        return False
    return True


def _equals(value: object, neutral: object) -> bool:
    if isinstance(value, list | np.ndarray):
        return False
    # Numbers may be of any type, but True is not 1.
    return isinstance(value, bool) == isinstance(neutral, bool) and value == neutral


def _is_damaged_name(key: str, name: str) -> bool:
    return len(key) == len(name) and sum(a != b for a, b in zip(key, name, strict=True)) <= 2


def _shorten(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "..."
