"""From a GGUF file to a directory that `max serve` loads.

MAX reads architecture, end tokens and tokenizer from JSON files beside the weights, not from GGUF
metadata, and runs GGUF weights on the CPU only, in the encodings Q4_K and Q6_K, which may be mixed.
Everything else is dequantised: float32 for the CPU, bfloat16 for the GPU. That includes Q4_0, which
MAX 26.7 loads but then crashes on (segmentation fault with the first token it generates).
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from maxgate.engine.command import PreparedModel, write_prepared
from maxgate.errors import ModelFileError
from maxgate.gguf import config, weights
from maxgate.gguf.reader import GGUFFile
from maxgate.gguf.safetensors import DType, write_shards
from maxgate.gguf.tokenizer import tokenizer_from_gguf

Device = Literal["cpu", "gpu"]
Progress = Callable[[int, int], None]

# The encodings of a file's matrices -> MAX's name of the encoding of the whole.
_RUN_AS_THEY_ARE = {
    frozenset({"Q4_K"}): "q4_k",
    frozenset({"Q4_K", "Q6_K"}): "q4_k",
    frozenset({"Q6_K"}): "q6_k",
}


def prepare_model(
    source: Path, out: Path, *, device: Device, force: bool = False, progress: Progress
) -> PreparedModel:
    """Write the directory `out` from the GGUF file `source`.

    `progress(done, total)` is told of bytes written. Appears whole or not at all: the files are
    written beside `out` and moved there at the end.

    Raises ModelFileError where the file cannot be served, where `out` exists already and `force`
    is not set, or where the disk is too small.
    """
    if out.exists() and not force:
        raise ModelFileError(f"{out} exists already. Give --force to replace it.")
    file = GGUFFile(source)
    encoding = _RUN_AS_THEY_ARE.get(_matrix_encodings(file)) if device == "cpu" else None
    keeps_gguf = encoding is not None
    encoding = encoding or ("float32" if device == "cpu" else "bfloat16")
    with _appearing_whole(out) as directory:
        _write_json_files(file, directory, dtype="float32" if device == "cpu" else "bfloat16")
        weight_file = None
        if keeps_gguf:
            weight_file = f"model.{encoding.upper()}.gguf"
            _copy_weights(source, directory / weight_file, progress)
        else:
            _write_weights(file, directory, "F32" if device == "cpu" else "BF16", progress)
        write_prepared(directory, source=source.name, encoding=encoding, weight_file=weight_file)
    return PreparedModel(out, encoding, None if weight_file is None else out / weight_file)


def prepare_directory(
    source: Path, out: Path, *, encoding: str, force: bool = False, progress: Progress
) -> PreparedModel:
    """Write the directory `out` with the files of `source`, which `max serve` loads as they are.

    Files are linked where that is possible. Promises and errors are those of `prepare_model`.
    """
    if out.exists() and not force:
        raise ModelFileError(f"{out} exists already. Give --force to replace it.")
    with _appearing_whole(out) as directory:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            target = directory / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            _copy_weights(file, target, progress)
        write_prepared(directory, source=source.name, encoding=encoding, weight_file=None)
    return PreparedModel(out, encoding, None)


def _matrix_encodings(file: GGUFFile) -> frozenset[str]:
    return frozenset(tensor.encoding.name for tensor in file.tensors if len(tensor.shape) > 1)


@contextmanager
def _appearing_whole(out: Path) -> Iterator[Path]:
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
    # Its own `save` has no OSError for a full disk.
    (directory / "tokenizer.json").write_text(tokenizer_from_gguf(file).to_str(pretty=True))


def _write_weights(file: GGUFFile, directory: Path, dtype: DType, progress: Progress) -> None:
    entries = weights.entries(file)
    total = sum(entry.stored_bytes(dtype) for entry in entries)
    _check_space(directory, total)
    done = 0
    progress(done, total)
    for written in write_shards(directory, entries, dtype):
        done += written
        progress(done, total)


def _copy_weights(source: Path, target: Path, progress: Progress) -> None:
    size = source.stat().st_size
    progress(0, size)
    try:
        os.link(source, target)
    except OSError:  # another file system
        _check_space(target.parent, size)
        shutil.copyfile(source, target)
    progress(size, size)


def _check_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ModelFileError(
            f"The disk of {directory.parent} is too small: {needed / 1e9:.1f} GB are needed, "
            f"{free / 1e9:.1f} GB are free."
        )
