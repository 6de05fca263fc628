"""Small Llama models as GGUF files, in any encoding of the package gguf."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import (
    GGML_QUANT_SIZES,
    GGMLQuantizationType,
    GGUFEndian,
    GGUFWriter,
    TokenType,
    quantize,
)
from numpy.typing import NDArray

HIDDEN, HEADS, KV_HEADS, LAYERS, FFN = 256, 4, 2, 2, 512
TOKENS = [*map(chr, range(0x21, 0x7F)), "Ġ", "ab", "<|end|>"]
CHATML_TOKENS = [*TOKENS, "<|im_start|>", "<|im_end|>"]


def interleave(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Reorder rotary rows as llama.cpp stores them (`permute` in its converter)."""
    rows, columns = weights.shape
    halves = weights.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def llama_weights(vocabulary: int = len(TOKENS)) -> dict[str, NDArray[np.float32]]:
    """Return weights under Hugging Face's names."""
    random = np.random.default_rng(1)

    def matrix(*shape: int) -> NDArray[np.float32]:
        return random.standard_normal(shape, dtype=np.float32)

    kv = HIDDEN // HEADS * KV_HEADS
    weights = {"model.embed_tokens.weight": matrix(vocabulary, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        weights |= {
            prefix + "self_attn.q_proj.weight": matrix(HIDDEN, HIDDEN),
            prefix + "self_attn.k_proj.weight": matrix(kv, HIDDEN),
            prefix + "self_attn.v_proj.weight": matrix(kv, HIDDEN),
            prefix + "self_attn.o_proj.weight": matrix(HIDDEN, HIDDEN),
            prefix + "input_layernorm.weight": matrix(HIDDEN),
            prefix + "post_attention_layernorm.weight": matrix(HIDDEN),
            prefix + "mlp.gate_proj.weight": matrix(FFN, HIDDEN),
            prefix + "mlp.up_proj.weight": matrix(FFN, HIDDEN),
            prefix + "mlp.down_proj.weight": matrix(HIDDEN, FFN),
        }
    return weights | {
        "model.norm.weight": matrix(HIDDEN),
        "lm_head.weight": matrix(vocabulary, HIDDEN),
    }


_GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """Return llama.cpp's name of a weight."""
    stem = name.removesuffix(".weight")
    if stem.startswith("model.layers."):
        _, _, layer, rest = stem.split(".", 3)
        return f"blk.{layer}.{_GGUF_NAMES[rest]}.weight"
    return _GGUF_NAMES[stem] + ".weight"


def encode(values: NDArray[np.float32], encoding: GGMLQuantizationType) -> NDArray[np.uint8]:
    """Encode the values; zero blocks stand for encodings that gguf can only read."""
    try:
        return quantize(values, encoding)
    except NotImplementedError:
        block, block_bytes = GGML_QUANT_SIZES[encoding]
        return np.zeros((len(values), values.shape[1] // block * block_bytes), np.uint8)


def write_llama(
    path: Path,
    *,
    encoding: GGMLQuantizationType = GGMLQuantizationType.F32,
    output_encoding: GGMLQuantizationType | None = None,
    architecture: str = "llama",
    pre: str | None = "llama-bpe",
    tokenizer: str | None = "gpt2",
    tokens: Sequence[str] = TOKENS,
    metadata: dict[str, Any] | None = None,
    extra: dict[str, NDArray[np.float32]] | None = None,
    without: Collection[str] = (),
    byte_order: GGUFEndian = GGUFEndian.LITTLE,
    tensors_per_file: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Write a model and return its weights; matrices are in `encoding`.

    `output_encoding` is the encoding of the output matrix, if it differs. `metadata` and `extra`
    add or replace values and tensors; `without` leaves out those of both by name. With
    `tensors_per_file`, the model is split into several files.
    """
    weights = llama_weights(len(tokens))
    writer = GGUFWriter(
        path,
        architecture,
        endianess=byte_order,
        split_max_tensors=tensors_per_file,
    )
    _add_settings(writer)
    if tokenizer is not None:
        _add_tokenizer(writer, tokenizer, pre, tokens)
    for key in {*without, *(metadata or {})}:
        writer.kv_data[0].pop(key, None)
    for key, value in (metadata or {}).items():
        writer.add_key_value(key, *value)
    encodings = dict.fromkeys(weights, encoding) | {"lm_head.weight": output_encoding or encoding}
    for name, values in weights.items():
        if gguf_name(name) not in {*without, *(extra or {})}:
            _add_weight(writer, name, values, encodings[name])
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def _add_settings(writer: GGUFWriter) -> None:
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)


def _add_weight(
    writer: GGUFWriter, name: str, values: NDArray[np.float32], encoding: GGMLQuantizationType
) -> None:
    if values.ndim == 1:
        writer.add_tensor(gguf_name(name), values)
        return
    if name.endswith(("q_proj.weight", "k_proj.weight")):
        values = interleave(values, HEADS if "q_proj" in name else KV_HEADS)
    writer.add_tensor(gguf_name(name), encode(values, encoding), raw_dtype=encoding)


def _add_tokenizer(writer: GGUFWriter, model: str, pre: str | None, tokens: Sequence[str]) -> None:
    writer.add_tokenizer_model(model)
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    control = [TokenType.CONTROL if t.startswith("<|") else TokenType.NORMAL for t in tokens]
    writer.add_token_types(control)
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(tokens.index("<|end|>"))
    writer.add_eos_token_id(tokens.index("<|end|>"))
    writer.add_chat_template("{{ messages }}")
