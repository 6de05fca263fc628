"""Preparing a directory that `max serve` loads from a GGUF file.

MAX reads architecture, end tokens and tokenizer from JSON files beside the weights, not from GGUF
metadata. It runs GGUF weights on the CPU only, in Q4_K and Q6_K, which may be mixed. All other
encodings are dequantized: to float32 for the CPU, to bfloat16 for the GPU. That includes Q4_0,
which MAX 26.7 loads, but crashes on with its first token (segmentation fault).
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final, Literal

from maxgate.engine.output_directory import check_replaceable, write_atomically
from maxgate.engine.prepared_model import PreparedModel, write_prepared
from maxgate.gguf import config, weights
from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.header import open_regular
from maxgate.gguf.join import count_joined_bytes, write_joined
from maxgate.gguf.llama import LlamaFile
from maxgate.gguf.safetensors import DType, write_shards
from maxgate.gguf.tokenizer import tokenizer_from_gguf

Device = Literal["cpu", "gpu"]
Progress = Callable[[int, int], None]
FreeSpace = Callable[[Path], int]

# Sets of matrix encodings that MAX runs as they are, and its name for each.
_NATIVE_ENCODINGS: Final = {
    frozenset({"Q4_K"}): "q4_k",
    frozenset({"Q4_K", "Q6_K"}): "q4_k",
    frozenset({"Q6_K"}): "q6_k",
}
_CHUNK_BYTES: Final = 16 * 2**20


def get_free_space(directory: Path) -> int:
    """Return the free bytes on a directory's disk."""
    return shutil.disk_usage(directory).free


def choose_encoding(model: LlamaFile, device: Device) -> str:
    """Return MAX's name of the encoding that a model is prepared in."""
    if device == "gpu":
        return "bfloat16"
    matrices = frozenset(t.encoding.name for t in model.file.tensors if len(t.shape) > 1)
    has_plain_vectors = all(
        t.encoding.name == "F32" for t in model.file.tensors if len(t.shape) == 1
    )
    return _NATIVE_ENCODINGS.get(matrices, "float32") if has_plain_vectors else "float32"


def prepare_model(
    model: LlamaFile,
    out: Path,
    *,
    device: Device,
    force: bool = False,
    progress: Progress,
    free_space: FreeSpace = get_free_space,
) -> PreparedModel:
    """Write the directory `out` from a GGUF model.

    Calls `progress(done, total)` with the bytes written. The directory is written atomically: it
    appears complete, or not at all. With `force`, it replaces an earlier model.

    Raises ModelFileError if the model cannot be served, if `out` may not be replaced, or if the
    disk is too small.
    """
    _check_outside([part.path for part in model.file.parts], out)
    check_replaceable(out, force=force)
    encoding = choose_encoding(model, device)
    texts = _build_json_files(model, dtype="float32" if device == "cpu" else "bfloat16")
    with write_atomically(out, force=force) as directory:
        for name, text in texts.items():
            (directory / name).write_text(text)
        weight_file = None
        if encoding in _NATIVE_ENCODINGS.values():
            weight_file = f"model.{encoding.upper()}.gguf"
            _keep_gguf(model, directory / weight_file, progress, free_space)
        else:
            dtype: DType = "F32" if device == "cpu" else "BF16"
            _write_weights(model, directory, dtype, progress, free_space)
        source = model.path.name
        write_prepared(directory, source=source, encoding=encoding, weight_file=weight_file)
    return PreparedModel(out, encoding, None if weight_file is None else out / weight_file)


def prepare_directory(
    source: Path, out: Path, *, encoding: str, force: bool = False, progress: Progress
) -> PreparedModel:
    """Write the directory `out` with the files of `source`, which `max serve` loads as they are.

    Links files where possible. Otherwise it behaves like `prepare_model`.
    """
    _check_outside([source], out)
    check_replaceable(out, force=force)
    files = sorted(path for path in source.rglob("*") if not path.is_dir() or path.is_symlink())
    for file in files:
        if not file.is_file():
            raise ModelFileError(f"{file} is not a file, nor a link to one; it cannot be copied.")
    with write_atomically(out, force=force) as directory:
        pairs = [(file, directory / file.relative_to(source)) for file in files]
        for _, target in pairs:
            target.parent.mkdir(parents=True, exist_ok=True)
        written = chain.from_iterable(_link_or_copy(*pair, get_free_space) for pair in pairs)
        _report(written, sum(file.stat().st_size for file in files), progress)
        write_prepared(directory, source=source.name, encoding=encoding, weight_file=None)
    return PreparedModel(out, encoding, None)


def _check_outside(sources: list[Path], out: Path) -> None:
    for source in sources:
        if source.resolve().is_relative_to(out.resolve()):
            raise ModelFileError(
                f"{source} is in {out}, which would be replaced. Choose another directory with "
                "--out."
            )


def _build_json_files(model: LlamaFile, *, dtype: str) -> dict[str, str]:
    contents = {
        "config.json": config.model_config(model, dtype=dtype),
        "generation_config.json": config.generation_config(model),
        "tokenizer_config.json": config.tokenizer_config(model),
    }
    texts = {name: json.dumps(content, indent=2) for name, content in contents.items()}
    tokenizer = tokenizer_from_gguf(model.file, model.vocabulary)
    # Not Tokenizer.save: it does not raise OSError when the disk is full.
    return texts | {"tokenizer.json": tokenizer.to_str(pretty=True)}


def _write_weights(
    model: LlamaFile, directory: Path, dtype: DType, progress: Progress, free_space: FreeSpace
) -> None:
    entries = weights.list_entries(model.file, model.shape.head_dim)
    total = sum(entry.count_bytes(dtype) for entry in entries)
    _check_space(directory, total, free_space)
    _report(write_shards(directory, entries, dtype), total, progress)


def _keep_gguf(model: LlamaFile, target: Path, progress: Progress, free_space: FreeSpace) -> None:
    if len(model.file.parts) == 1:
        written = _link_or_copy(model.path, target, free_space)
        _report(written, model.path.stat().st_size, progress)
        return
    total = count_joined_bytes(model.file)
    _check_space(target.parent, total, free_space)
    _report(write_joined(model.file, target), total, progress)


def _link_or_copy(source: Path, target: Path, free_space: FreeSpace) -> Iterator[int]:
    """Link or copy a file; yields the bytes of each step."""
    # A link to a link would lead nowhere: those in Hugging Face's cache are relative.
    source = source.resolve()
    size = source.stat().st_size
    try:
        os.link(source, target)
    except OSError:  # on another file system, or another user's file
        _check_space(target.parent, size, free_space)
        with open_regular(source) as read, target.open("wb") as out:
            while data := read.read(_CHUNK_BYTES):
                out.write(data)
                yield len(data)
    else:
        yield size


def _report(written: Iterator[int], total: int, progress: Progress) -> None:
    done = 0
    progress(done, total)
    for count in written:
        done += count
        progress(done, total)


def _check_space(directory: Path, needed: int, free_space: FreeSpace) -> None:
    free = free_space(directory)
    if free < needed:
        raise ModelFileError(
            f"The disk of {directory.parent} is too small: {needed / 1e9:.1f} GB are needed, "
            f"{free / 1e9:.1f} GB are free."
        )
