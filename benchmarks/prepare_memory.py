"""Measure the peak memory of `maxgate models prepare` for a large model.

    python benchmarks/prepare_memory.py [--layers 32] [--device gpu]

The model has the tensor shapes and the vocabulary size of Llama 3 8B in Q8_0. Its GGUF file is
sparse, but the output is not: it takes about 1 GB of disk per layer for the CPU and half of that
for the GPU.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, TokenType

HIDDEN, HEADS, KV_HEADS, FFN, VOCABULARY, MERGES = 4096, 32, 8, 14336, 128256, 280147
ENCODING = GGMLQuantizationType.Q8_0
MATRICES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "attn_v": (HIDDEN // HEADS * KV_HEADS, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (FFN, HIDDEN),
    "ffn_up": (FFN, HIDDEN),
    "ffn_down": (HIDDEN, FFN),
}


def write_sparse_llama(path: Path, layers: int) -> None:
    """Write a GGUF file whose weights are holes in the file."""
    writer = GGUFWriter(path, "llama")
    writer.add_file_type(7)
    writer.add_context_length(8192)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(500000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    _write_vocabulary(writer)
    _add_weight(writer, "token_embd", (VOCABULARY, HIDDEN))
    for layer in range(layers):
        for name, shape in MATRICES.items():
            _add_weight(writer, f"blk.{layer}.{name}", shape)
        for name in ("attn_norm", "ffn_norm"):
            _add_weight(writer, f"blk.{layer}.{name}", (HIDDEN,))
    _add_weight(writer, "output_norm", (HIDDEN,))
    _add_weight(writer, "output", (VOCABULARY, HIDDEN))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    holes = sum(info.nbytes + 31 for tensors in writer.tensors for info in tensors.values())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + holes)


def _add_weight(writer: GGUFWriter, name: str, shape: tuple[int, ...]) -> None:
    if len(shape) == 1:
        writer.add_tensor_info(f"{name}.weight", shape, np.dtype("f4"), shape[0] * 4)
        return
    block, block_bytes = GGML_QUANT_SIZES[ENCODING]
    row = shape[1] // block * block_bytes
    writer.add_tensor_info(
        f"{name}.weight", (shape[0], row), np.dtype("u1"), shape[0] * row, raw_dtype=ENCODING
    )


def _write_vocabulary(writer: GGUFWriter) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    letters = [*map(chr, range(0x21, 0x7F)), "Ġ"]
    words = [f"w{number:x}" for number in range(VOCABULARY - len(letters) - 1)]
    writer.add_token_list([*letters, *words, "<|end|>"])
    kinds = [TokenType.NORMAL] * (VOCABULARY - 1)
    writer.add_token_types([*kinds, TokenType.CONTROL])
    pairs = [f"{first} {second}" for first in letters for second in letters]
    joined = [pair.replace(" ", "") for pair in pairs]
    known = dict.fromkeys(words)
    # Only merges of known words count, so repeat those until there are as many as in Llama 3.
    usable = [pair for pair, word in zip(pairs, joined, strict=True) if word in known]
    writer.add_token_merges((usable * (MERGES // max(len(usable), 1) + 1))[:MERGES])
    writer.add_bos_token_id(VOCABULARY - 1)
    writer.add_eos_token_id(VOCABULARY - 1)
    writer.add_chat_template("{{ messages }}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--layers", type=int, default=32, help="number of layers (default: 32)")
    parser.add_argument(
        "--device", choices=("cpu", "gpu"), default="gpu", help="target device (default: gpu)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "llama.Q8_0.gguf"), Path(folder, "out")
        write_sparse_llama(source, arguments.layers)
        command = [sys.executable, "-m", "maxgate", "models", "prepare", source, "--out", out]
        began = time.perf_counter()
        subprocess.run([*map(str, command), "--device", arguments.device], check=True)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        written = sum(file.stat().st_size for file in out.iterdir()) / 1e9
    print(f"{written:.1f} GB written in {seconds:.0f} s, peak memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
