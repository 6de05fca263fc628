"""The JSON files of a model directory, built from GGUF metadata.

Keys and values follow Hugging Face's `LlamaConfig`, which MAX reads.
"""

from typing import Any

import numpy as np

from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.llama import LlamaFile

# Constants of Llama 3.1's rope scaling (`apply_scaling` in Meta's llama-models). The factor differs
# between models and is computed from the file.
_LLAMA3_LOW, _LLAMA3_HIGH, _LLAMA3_ORIGINAL = 1.0, 4.0, 8192


def model_config(model: LlamaFile, *, dtype: str) -> dict[str, Any]:
    """Build `config.json`.

    Raises ModelFileError for a missing or invalid setting.
    """
    shape, ids = model.shape, model.vocabulary.special_ids
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context_length,
        "rms_norm_eps": model.file.read_number(
            "llama.attention.layer_norm_rms_epsilon", 1e-12, 0.1
        ),
        "rope_theta": _read_theta(model),
        "rope_scaling": rope_scaling(model),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": model.file.tensor("output.weight") is None,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": ids.get("bos"),
        "eos_token_id": model.vocabulary.end_ids,
        "pad_token_id": ids.get("padding"),
        "torch_dtype": dtype,
    }


def _read_theta(model: LlamaFile) -> float:
    return model.file.read_number("llama.rope.freq_base", 1.0, 1e15, default=10000.0)


def rope_scaling(model: LlamaFile) -> dict[str, Any] | None:
    """Return Hugging Face's `rope_scaling`: how positions beyond the trained context are scaled.

    Raises ModelFileError for scaling other than Llama 3.1's, which MAX's Llama ignores.
    """
    kind = model.file.read_text("llama.rope.scaling.type", "none")
    if kind != "none":
        raise ModelFileError(
            f"{model.path} has rope scaling of the type {kind!r} ('llama.rope.scaling.type'), "
            "which MAX's Llama does not implement. Use another model."
        )
    tensor = model.file.tensor("rope_freqs.weight")
    if tensor is None:
        return None
    # The file stores the result of the scaling, one divisor per frequency. The formula was Llama
    # 3.1's if it yields the same divisors.
    factors = np.concatenate([*model.file.read_rows(tensor)], axis=None)
    factor, dim = float(factors.max()), model.shape.head_dim
    wavelength = 2 * np.pi * _read_theta(model) ** (np.arange(0, dim, 2) / dim)
    smooth = (_LLAMA3_ORIGINAL / wavelength - _LLAMA3_LOW) / (_LLAMA3_HIGH - _LLAMA3_LOW)
    if factor > 0:
        expected = 1 / (np.clip(smooth, 0, 1) * (1 - 1 / factor) + 1 / factor)
    if factor <= 0 or not np.allclose(factors, expected, rtol=1e-3):
        raise ModelFileError(
            f"{model.path} has rope factors that are not Llama 3.1's ('rope_freqs.weight'), which "
            "MAX's Llama does not implement. Use another model."
        )
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": _LLAMA3_LOW,
        "high_freq_factor": _LLAMA3_HIGH,
        "original_max_position_embeddings": _LLAMA3_ORIGINAL,
    }


def generation_config(model: LlamaFile) -> dict[str, Any]:
    """Build `generation_config.json`, without sampling defaults: those are in the model card."""
    ids = model.vocabulary.special_ids
    return {
        "bos_token_id": ids.get("bos"),
        "eos_token_id": model.vocabulary.end_ids,
        "pad_token_id": ids.get("padding"),
    }


def tokenizer_config(model: LlamaFile) -> dict[str, Any]:
    """Build `tokenizer_config.json`: special tokens and the chat template."""
    vocabulary = model.vocabulary
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": vocabulary.find_token("bos"),
        "eos_token": vocabulary.find_token("eos"),
        "pad_token": vocabulary.find_token("padding"),
        "unk_token": vocabulary.find_token("unknown"),
        "add_bos_token": vocabulary.adds_bos,
        "clean_up_tokenization_spaces": False,
        "model_max_length": model.shape.context_length,
        "chat_template": model.file.read_text("tokenizer.chat_template") or None,
    }
