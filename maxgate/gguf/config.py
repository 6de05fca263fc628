"""The JSON files of a model directory, built from GGUF metadata.

Keys and values follow Hugging Face's `LlamaConfig`, which MAX reads.
"""

from typing import Any

import numpy as np

from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.reader import GGUFFile

# Constants of Llama 3.1's rope scaling (`apply_scaling` in Meta's llama-models). The factor differs
# between models and is computed from the file.
_LLAMA3_LOW, _LLAMA3_HIGH, _LLAMA3_ORIGINAL = 1.0, 4.0, 8192


def model_config(file: GGUFFile, *, dtype: str) -> dict[str, Any]:
    """Build `config.json` for a Llama model.

    Raises ModelFileError for another architecture or a missing key.
    """
    architecture = file.require("general.architecture")
    if architecture != "llama":
        raise ModelFileError(
            f"{file.path} has the architecture {architecture!r}; "
            "only Llama models ('llama') can be prepared."
        )
    if file.get("llama.expert_count", 0):
        raise ModelFileError(
            f"{file.path} is a mixture of experts, which MAX does not serve as a Llama model."
        )
    hidden, heads = (
        file.require("llama.embedding_length"),
        file.require("llama.attention.head_count"),
    )
    embedding = file.tensor("token_embd.weight")
    if embedding is None:
        raise ModelFileError(f"{file.path} lacks the tensor token_embd.weight.")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": embedding.shape[0],
        "hidden_size": hidden,
        "intermediate_size": file.require("llama.feed_forward_length"),
        "num_hidden_layers": file.require("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.get("llama.attention.head_count_kv", heads),
        "head_dim": head_dim(file),
        "hidden_act": "silu",
        "max_position_embeddings": file.require("llama.context_length"),
        "rms_norm_eps": file.require("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": file.get("llama.rope.freq_base", 10000.0),
        "rope_scaling": rope_scaling(file),
        "attention_bias": file.tensor("blk.0.attn_q.bias") is not None,
        "mlp_bias": file.tensor("blk.0.ffn_up.bias") is not None,
        "tie_word_embeddings": file.tensor("output.weight") is None,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": end_tokens(file),
        "pad_token_id": file.get("tokenizer.ggml.padding_token_id"),
        "torch_dtype": dtype,
    }


def head_dim(file: GGUFFile) -> int:
    """Return the size of an attention head."""
    default = file.require("llama.embedding_length") // file.require("llama.attention.head_count")
    return int(file.get("llama.rope.dimension_count", default))


def end_tokens(file: GGUFFile) -> list[int]:
    """Return the ids that end generation: end of sequence, of turn and of message."""
    keys = ("eos_token_id", "eot_token_id", "eom_token_id")
    ids = [file.get(f"tokenizer.ggml.{key}") for key in keys]
    tokens: list[str] = file.get("tokenizer.ggml.tokens", [])
    # Older files name only one of Llama 3's three.
    named = [
        tokens.index(t) for t in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>") if t in tokens
    ]
    return sorted({int(i) for i in [*ids, *named] if i is not None})


def rope_scaling(file: GGUFFile) -> dict[str, Any] | None:
    """Return Hugging Face's `rope_scaling`: how positions beyond the trained context are scaled."""
    factors = file.tensor("rope_freqs.weight")
    if factors is not None:
        return _llama3_scaling(file, np.concatenate([*file.read_rows(factors)], axis=None))
    kind = file.get("llama.rope.scaling.type", "none")
    if kind == "none":
        return None
    scaling = {"rope_type": kind, "factor": file.require("llama.rope.scaling.factor")}
    original = file.get("llama.rope.scaling.original_context_length")
    if original is not None:
        scaling["original_max_position_embeddings"] = original
    return scaling


def _llama3_scaling(file: GGUFFile, factors: np.ndarray) -> dict[str, Any]:
    # The file stores the result of the scaling, one divisor per frequency. The formula was Llama
    # 3.1's if it yields the same divisors.
    factor = float(factors.max())
    theta = float(file.get("llama.rope.freq_base", 10000.0))
    dim = head_dim(file)
    wavelength = 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim)
    smooth = (_LLAMA3_ORIGINAL / wavelength - _LLAMA3_LOW) / (_LLAMA3_HIGH - _LLAMA3_LOW)
    expected = 1 / (np.clip(smooth, 0, 1) * (1 - 1 / factor) + 1 / factor)
    if not np.allclose(factors, expected, rtol=1e-3):
        raise ModelFileError(
            f"{file.path} has rope factors that are not Llama 3.1's; its scaling is not supported."
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LLAMA3_LOW,
        "high_freq_factor": _LLAMA3_HIGH,
        "original_max_position_embeddings": _LLAMA3_ORIGINAL,
    }


def generation_config(file: GGUFFile) -> dict[str, Any]:
    """Build `generation_config.json`, without sampling defaults: those are in the model card."""
    return {
        "bos_token_id": file.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": end_tokens(file),
        "pad_token_id": file.get("tokenizer.ggml.padding_token_id"),
    }


def tokenizer_config(file: GGUFFile) -> dict[str, Any]:
    """Build `tokenizer_config.json`: special tokens and the chat template."""
    tokens: list[str] = file.require("tokenizer.ggml.tokens")

    def find_token(key: str) -> str | None:
        index = file.get(f"tokenizer.ggml.{key}_token_id")
        return None if index is None else tokens[index]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": find_token("bos"),
        "eos_token": find_token("eos"),
        "pad_token": find_token("padding"),
        "unk_token": find_token("unknown"),
        "add_bos_token": bool(file.get("tokenizer.ggml.add_bos_token", True)),
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.get("llama.context_length"),
        "chat_template": file.get("tokenizer.chat_template"),
    }
