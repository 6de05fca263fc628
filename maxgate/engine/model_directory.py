"""Preparing a directory that `max serve` loads from a GGUF file.

MAX reads architecture, end tokens and tokenizer from JSON files beside the weights, not from GGUF
metadata. It runs GGUF weights on the CPU only, in Q4_K and Q6_K, which may be mixed. All other
encodings are dequantized: to float32 for the CPU, to bfloat16 for the GPU. That includes Q4_0,
which MAX 26.7 loads, but crashes on with its first token (segmentation fault).
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from maxgate.engine.command import PreparedModel, write_prepared
from maxgate.gguf import config, weights
from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.reader import GGUFFile
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


def get_free_space(directory: Path) -> int:
    """Return the free bytes on a directory's disk."""
    return shutil.disk_usage(directory).free


def prepare_model(
    source: Path,
    out: Path,
    *,
    device: Device,
    force: bool = False,
    progress: Progress,
    free_space: FreeSpace = get_free_space,
) -> PreparedModel:
    """Write the directory `out` from the GGUF file `source`.

    Calls `progress(done, total)` with the bytes written. The directory is written atomically: it
    appears complete, or not at all.

    Raises ModelFileError if the file cannot be served, if `out` exists and `force` is not set, or
    if the disk is too small.
    """
    if out.exists() and not force:
        raise ModelFileError(f"{out} exists already. Give --force to replace it.")
    file = GGUFFile(source)
    encoding = _NATIVE_ENCODINGS.get(_collect_matrix_encodings(file)) if device == "cpu" else None
    keeps_gguf = encoding is not None
    encoding = encoding or ("float32" if device == "cpu" else "bfloat16")
    with _write_atomically(out) as directory:
        _write_json_files(file, directory, dtype="float32" if device == "cpu" else "bfloat16")
        weight_file = None
        if keeps_gguf:
            weight_file = f"model.{encoding.upper()}.gguf"
            _link_or_copy(source, directory / weight_file, progress, free_space)
        else:
            dtype: DType = "F32" if device == "cpu" else "BF16"
            _write_weights(file, directory, dtype, progress, free_space)
        write_prepared(directory, source=source.name, encoding=encoding, weight_file=weight_file)
    return PreparedModel(out, encoding, None if weight_file is None else out / weight_file)


def prepare_directory(
    source: Path, out: Path, *, encoding: str, force: bool = False, progress: Progress
) -> PreparedModel:
    """Write the directory `out` with the files of `source`, which `max serve` loads as they are.

    Links files where possible. Otherwise it behaves like `prepare_model`.
    """
    if out.exists() and not force:
        raise ModelFileError(f"{out} exists already. Give --force to replace it.")
    with _write_atomically(out) as directory:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            target = directory / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(file, target, progress, get_free_space)
        write_prepared(directory, source=source.name, encoding=encoding, weight_file=None)
    return PreparedModel(out, encoding, None)


def _collect_matrix_encodings(file: GGUFFile) -> frozenset[str]:
    return frozenset(tensor.encoding.name for tensor in file.tensors if len(tensor.shape) > 1)


@contextmanager
def _write_atomically(out: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `out` that is renamed to it on success."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ModelFileError(f"Cannot write to {out.parent}: {error.strerror}") from error
    try:
        yield partial
        partial.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except OSError as error:
        raise ModelFileError(f"Writing {out} failed: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_json_files(file: GGUFFile, directory: Path, *, dtype: str) -> None:
    files = {
        "config.json": config.model_config(file, dtype=dtype),
        "generation_config.json": config.generation_config(file),
        "tokenizer_config.json": config.tokenizer_config(file),
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=2))
    # Not Tokenizer.save: it does not raise OSError when the disk is full.
    (directory / "tokenizer.json").write_text(tokenizer_from_gguf(file).to_str(pretty=True))


def _write_weights(
    file: GGUFFile, directory: Path, dtype: DType, progress: Progress, free_space: FreeSpace
) -> None:
    entries = weights.list_entries(file)
    total = sum(entry.count_bytes(dtype) for entry in entries)
    _check_space(directory, total, free_space)
    done = 0
    progress(done, total)
    for written in write_shards(directory, entries, dtype):
        done += written
        progress(done, total)


def _link_or_copy(source: Path, target: Path, progress: Progress, free_space: FreeSpace) -> None:
    size = source.stat().st_size
    progress(0, size)
    try:
        os.link(source, target)
    except OSError:  # on another file system
        _check_space(target.parent, size, free_space)
        shutil.copyfile(source, target)
    progress(size, size)


def _check_space(directory: Path, needed: int, free_space: FreeSpace) -> None:
    free = free_space(directory)
    if free < needed:
        raise ModelFileError(
            f"The disk of {directory.parent} is too small: {needed / 1e9:.1f} GB are needed, "
            f"{free / 1e9:.1f} GB are free."
        )
