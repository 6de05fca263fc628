"""The tensors of a Llama GGUF file with Hugging Face's names and row order."""

import re
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray

from maxgate.gguf.config import head_dim
from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.reader import GGUFFile, Tensor
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
_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
# Part of config.json instead.
_NOT_WEIGHTS = {"rope_freqs.weight"}


def hugging_face_name(name: str) -> str | None:
    """Return the Hugging Face name of a GGUF tensor, or None if it has none."""
    if layer := _LAYER.fullmatch(name):
        number, part, kind = layer.groups()
        target = _PER_LAYER.get(part)
        return None if target is None else f"model.layers.{number}.{target}.{kind}"
    stem, _, kind = name.rpartition(".")
    target = _WHOLE.get(stem)
    return None if target is None else f"{target}.{kind}"


def list_entries(file: GGUFFile) -> list[Entry]:
    """List all weights; their rows are dequantized as they are iterated.

    Raises ModelFileError if a tensor is not part of a Llama model.
    """
    return [_build_entry(file, t) for t in file.tensors if t.name not in _NOT_WEIGHTS]


def _build_entry(file: GGUFFile, tensor: Tensor) -> Entry:
    name = hugging_face_name(tensor.name)
    if name is None:
        raise ModelFileError(
            f"{file.path} has the tensor {tensor.name!r}, which is not part of a Llama model."
        )
    is_rotary = ".attn_q." in tensor.name or ".attn_k." in tensor.name
    read = partial(_read_rotary_rows if is_rotary else GGUFFile.read_rows, file, tensor)
    return Entry(name, tensor.shape, _Rows(read))


class _Rows:
    """Rows that are read from the file at each iteration."""

    def __init__(self, read: partial[Iterator[NDArray[np.float32]]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return self._read()


def _read_rotary_rows(file: GGUFFile, tensor: Tensor) -> Iterator[NDArray[np.float32]]:
    # llama.cpp interleaves the two halves of each head's rotary pairs (`permute` in its
    # convert_hf_to_gguf.py); Hugging Face stores one half after the other.
    dim = head_dim(file)
    if len(tensor.shape) == 1:  # a bias has one element per row
        whole = np.concatenate([*file.read_rows(tensor)], axis=None)
        yield whole.reshape(-1, dim // 2, 2).swapaxes(1, 2).reshape(1, -1)
        return
    for rows in file.read_rows(tensor, multiple=dim):
        columns = rows.shape[1]
        yield rows.reshape(-1, dim // 2, 2, columns).swapaxes(1, 2).reshape(-1, columns)
