"""The tensors of a Llama GGUF file with Hugging Face's names and row order."""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from maxgate.gguf.header import Tensor
from maxgate.gguf.reader import GGUFFile
from maxgate.gguf.safetensors import Entry

_WHOLE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_PER_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.weight")
# Part of config.json instead.
_NOT_WEIGHTS = {"rope_freqs.weight"}


def hugging_face_name(name: str) -> str:
    """Return the Hugging Face name of a tensor of a Llama model."""
    if layer := _LAYER.fullmatch(name):
        number, part = layer.groups()
        return f"model.layers.{number}.{_PER_LAYER[part]}.weight"
    return f"{_WHOLE[name.removesuffix('.weight')]}.weight"


def list_entries(file: GGUFFile, head_dim: int) -> list[Entry]:
    """List all weights; their rows are dequantized as they are iterated."""
    return [
        Entry(hugging_face_name(tensor.name), tensor.shape, _Rows(_bind(file, tensor, head_dim)))
        for tensor in file.tensors
        if tensor.name not in _NOT_WEIGHTS
    ]


def _bind(file: GGUFFile, tensor: Tensor, head_dim: int) -> partial[Iterator[NDArray[np.float32]]]:
    if ".attn_q." in tensor.name or ".attn_k." in tensor.name:
        return partial(_read_rotary_rows, file, tensor, head_dim)
    return partial(GGUFFile.read_rows, file, tensor)


class _Rows:
    """Rows that are read from the file at each iteration."""

    def __init__(self, read: partial[Iterator[NDArray[np.float32]]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self._read()


def _read_rotary_rows(
    file: GGUFFile, tensor: Tensor, head_dim: int
) -> Iterator[NDArray[np.float32]]:
    # llama.cpp interleaves the two halves of each head's rotary pairs (`permute` in its
    # convert_hf_to_gguf.py); Hugging Face stores one half after the other.
    for rows in file.read_rows(tensor, multiple=head_dim):
        columns = rows.shape[1]
        pairs = rows.reshape(-1, head_dim // 2, 2, columns)
        yield pairs.swapaxes(1, 2).reshape(-1, columns)
