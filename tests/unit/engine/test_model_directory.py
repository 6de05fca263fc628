"""A GGUF file becomes a complete directory with the same model, or no directory."""

import json
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Encoding
from gguf import GGUFReader, dequantize, quantize
from safetensors import safe_open
from tokenizers import Tokenizer

from maxgate.engine.model_directory import prepare_directory, prepare_model
from maxgate.engine.prepared_model import PreparedModel, read_prepared
from maxgate.gguf import safetensors
from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.llama import LlamaFile
from maxgate.gguf.reader import GGUFFile
from maxgate.gguf.weights import list_entries
from tests.fakes.gguf_files import HEADS, HIDDEN, KV_HEADS, TOKENS, interleave, write_llama

MEMORY_DISK = "/dev/shm"  # noqa: S108  # a file system of its own


def ignore(done: int, total: int) -> None:
    """Ignore progress."""


def prepare(file: Path, out: Path, **options: Any) -> PreparedModel:
    """Prepare a GGUF file, for the CPU by default."""
    return prepare_model(LlamaFile(file), out, **{"device": "cpu", "progress": ignore, **options})


def read_tensors(directory: Path) -> dict[str, np.ndarray]:
    """Read all safetensors files of a directory."""
    read = {}
    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="np") as opened:
            read |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return read


def test_float32(tmp_path: Path) -> None:
    """Float32 weights stay as they are, and progress reports the bytes written."""
    weights = write_llama(tmp_path / "m.gguf")
    seen: list[tuple[int, int]] = []
    prepared = prepare(
        tmp_path / "m.gguf",
        tmp_path / "out",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert prepared == PreparedModel(tmp_path / "out", "float32", None)
    assert read_prepared(tmp_path / "out") == prepared
    written = read_tensors(tmp_path / "out")
    assert written.keys() == weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)
    size = sum(values.nbytes for values in weights.values())
    assert (seen[0], seen[-1]) == ((0, size), (size, size))


@pytest.mark.parametrize("encoding", [Encoding.Q4_1, Encoding.Q8_0, Encoding.Q5_0, Encoding.F16])
def test_dequantization(tmp_path: Path, encoding: Encoding) -> None:
    """Encodings that MAX does not run become float32."""
    weights = write_llama(tmp_path / "m.gguf", encoding=encoding)
    prepare(tmp_path / "m.gguf", tmp_path / "out")
    written = read_tensors(tmp_path / "out")
    for name, values in weights.items():
        heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else None
        stored = interleave(values, heads) if heads else values
        expected = values if values.ndim == 1 else dequantize(quantize(stored, encoding), encoding)
        actual = interleave(written[name], heads) if heads else written[name]
        np.testing.assert_array_equal(actual, expected, err_msg=name)


def test_gpu(tmp_path: Path) -> None:
    """For the GPU, weights become bfloat16."""
    weights = write_llama(tmp_path / "m.gguf")
    prepared = prepare(tmp_path / "m.gguf", tmp_path / "out", device="gpu")
    assert prepared.encoding == "bfloat16"
    values = weights["model.norm.weight"]
    raw = safetensors.to_bytes(values, "BF16")
    expected = quantize(values.reshape(1, -1), Encoding.BF16)
    assert raw == expected.tobytes()
    with safe_open(tmp_path / "out" / "model.safetensors", framework="np") as opened:
        assert opened.get_slice("model.norm.weight").get_dtype() == "BF16"


@pytest.mark.parametrize(
    ("encoding", "output_encoding", "name"),
    [
        (Encoding.Q4_K, Encoding.Q6_K, "q4_k"),
        (Encoding.Q4_K, Encoding.Q4_K, "q4_k"),
        (Encoding.Q6_K, Encoding.Q6_K, "q6_k"),
    ],
)
def test_native_encodings(
    tmp_path: Path, encoding: Encoding, output_encoding: Encoding, name: str
) -> None:
    """Encodings that MAX runs on the CPU stay in the GGUF file."""
    write_llama(tmp_path / "m.gguf", encoding=encoding, output_encoding=output_encoding)
    out = tmp_path / "out"
    prepared = prepare(tmp_path / "m.gguf", out)
    weights = out / f"model.{name.upper()}.gguf"
    assert prepared == PreparedModel(out, name, weights)
    assert read_prepared(out) == prepared
    assert weights.read_bytes() == (tmp_path / "m.gguf").read_bytes()
    assert read_tensors(out) == {}


@pytest.mark.parametrize("output_encoding", [Encoding.Q4_0, Encoding.Q8_0, Encoding.F16])
def test_q4_0(tmp_path: Path, output_encoding: Encoding) -> None:
    """Q4_0 is dequantized, because MAX crashes on it."""
    write_llama(tmp_path / "m.gguf", encoding=Encoding.Q4_0, output_encoding=output_encoding)
    prepared = prepare(tmp_path / "m.gguf", tmp_path / "out")
    assert (prepared.encoding, prepared.weight_path) == ("float32", None)


def test_native_encoding_on_gpu(tmp_path: Path) -> None:
    """On the GPU, MAX runs no GGUF encoding, so all are dequantized."""
    write_llama(tmp_path / "m.gguf", encoding=Encoding.Q4_K)
    prepared = prepare(tmp_path / "m.gguf", tmp_path / "out", device="gpu")
    assert (prepared.encoding, prepared.weight_path) == ("bfloat16", None)


def test_json_files(tmp_path: Path) -> None:
    """Configuration and tokenizer are rebuilt from the metadata."""
    write_llama(tmp_path / "m.gguf")
    prepare(tmp_path / "m.gguf", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(TOKENS),
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": 256,
        "rms_norm_eps": pytest.approx(1e-5),
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": 96,
        "eos_token_id": [96],
        "pad_token_id": None,
        "torch_dtype": "float32",
    }
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 96, "eos_token_id": [96], "pad_token_id": None}
    tokenizer = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert (tokenizer["chat_template"], tokenizer["bos_token"]) == ("{{ messages }}", "<|end|>")
    rebuilt = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert rebuilt.encode("ab a<|end|>").tokens == ["<|end|>", "ab", "Ġ", "a", "<|end|>"]


def llama3_factors(factor: float, dim: int = HIDDEN // HEADS, theta: float = 10000.0) -> np.ndarray:
    """Compute the divisors that llama.cpp's converter writes for Llama 3.1's scaling."""
    factors = []
    for wavelength in 2 * np.pi * theta ** (np.arange(0, dim, 2) / dim):
        if wavelength < 8192 / 4:
            factors.append(1.0)
        elif wavelength > 8192:
            factors.append(factor)
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_rope_scaling(tmp_path: Path, factor: float) -> None:
    """Llama 3.1's scaling is recognized from its divisors."""
    write_llama(tmp_path / "m.gguf", extra={"rope_freqs.weight": llama3_factors(factor)})
    prepare(tmp_path / "m.gguf", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert "rope_freqs" not in str(read_tensors(tmp_path / "out").keys())


def test_shards(tmp_path: Path) -> None:
    """Large models are split into several files with an index."""
    weights = write_llama(tmp_path / "m.gguf")
    entries = list_entries(GGUFFile(tmp_path / "m.gguf"), HIDDEN // HEADS)
    assert sum(safetensors.write_shards(tmp_path, entries, "F32", limit=40_000)) == sum(
        values.nbytes for values in weights.values()
    )
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == weights.keys()
    assert set(index["weight_map"].values()) == {f.name for f in tmp_path.glob("*.safetensors")}
    assert len(set(index["weight_map"].values())) > 2
    np.testing.assert_array_equal(
        read_tensors(tmp_path)["lm_head.weight"], weights["lm_head.weight"]
    )


def test_pieces(tmp_path: Path) -> None:
    """Reading tensors in many small pieces gives the same rows."""
    weights = write_llama(tmp_path / "m.gguf")
    entries = list_entries(GGUFFile(tmp_path / "m.gguf", piece_bytes=1000), HIDDEN // HEADS)
    assert max(len(list(entry.rows)) for entry in entries) > 10
    for entry in entries:
        values = np.concatenate(list(entry.rows)).reshape(entry.shape)
        np.testing.assert_array_equal(values, weights[entry.name], err_msg=entry.name)


@pytest.mark.parametrize(("limit", "weights_written"), [(1024, 0), (100_000, 1)])
def test_write_error(tmp_path: Path, limit: int, weights_written: int) -> None:
    """An error of the file system, before or within the weights, leaves nothing behind."""
    write_llama(tmp_path / "m.gguf")
    seen: list[tuple[int, int]] = []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(ModelFileError, match="File too large"):
            prepare(
                tmp_path / "m.gguf",
                tmp_path / "o" / "m",
                progress=lambda done, total: seen.append((done, total)),
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(seen) >= weights_written
    assert list((tmp_path / "o").iterdir()) == []


def test_disk_too_small(tmp_path: Path) -> None:
    """Too little space is reported before any weights are written."""
    write_llama(tmp_path / "m.gguf")
    seen: list[tuple[int, int]] = []
    with pytest.raises(ModelFileError, match="too small"):
        prepare(
            tmp_path / "m.gguf",
            tmp_path / "out",
            progress=lambda done, total: seen.append((done, total)),
            free_space=lambda _: 1000,
        )
    assert seen == []


def test_read_other_directory(tmp_path: Path) -> None:
    """A directory that `prepare` has not written is not a prepared model."""
    assert read_prepared(tmp_path) is None


def test_prepare_directory(tmp_path: Path) -> None:
    """A directory that MAX loads is copied as it is."""
    source = tmp_path / "package" / "model"
    (source / "1_Pooling").mkdir(parents=True)
    (source / "model.safetensors").write_bytes(b"weights")
    (source / "1_Pooling" / "config.json").write_text("{}")
    out = tmp_path / "out"
    prepared = prepare_directory(source, out, encoding="float32", progress=ignore)
    assert prepared == read_prepared(out) == PreparedModel(out, "float32", None)
    assert (out / "model.safetensors").read_bytes() == b"weights"
    assert (out / "1_Pooling" / "config.json").read_text() == "{}"
    with pytest.raises(ModelFileError, match="exists already"):
        prepare_directory(source, out, encoding="float32", progress=ignore)


def test_hugging_face_cache(tmp_path: Path) -> None:
    """A relative link to a blob, as in Hugging Face's cache, becomes the file itself."""
    blob = tmp_path / "models--o--m" / "blobs" / "0123abcd"
    blob.parent.mkdir(parents=True)
    write_llama(blob, encoding=Encoding.Q4_K)
    source = tmp_path / "models--o--m" / "snapshots" / "main" / "m.gguf"
    source.parent.mkdir(parents=True)
    source.symlink_to(Path("..") / ".." / "blobs" / "0123abcd")
    weights = prepare(source, tmp_path / "elsewhere" / "deep" / "out").weight_path
    assert weights is not None
    content = blob.read_bytes()
    source.unlink()
    blob.unlink()
    assert (weights.is_symlink(), weights.read_bytes()) == (False, content)


def test_other_file_system(tmp_path: Path) -> None:
    """A file on another file system is copied, with progress."""
    with tempfile.TemporaryDirectory(dir=MEMORY_DISK) as folder:
        source = Path(folder, "m.gguf")
        if source.parent.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip(f"{MEMORY_DISK} is no file system of its own")
        write_llama(source, encoding=Encoding.Q4_K)
        size, seen = source.stat().st_size, list[tuple[int, int]]()
        prepared = prepare(
            source, tmp_path / "out", progress=lambda done, total: seen.append((done, total))
        )
        assert prepared.weight_path is not None
        assert prepared.weight_path.read_bytes() == source.read_bytes()
        assert (seen[0], seen[-1]) == ((0, size), (size, size))


def test_directory_of_links(tmp_path: Path) -> None:
    """Links in a directory are resolved, and a broken one is named."""
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").symlink_to(Path("..") / "blob")
    out = tmp_path / "deep" / "out"
    prepare_directory(tmp_path / "model", out, encoding="float32", progress=ignore)
    assert not (out / "model.safetensors").is_symlink()
    (tmp_path / "blob").unlink()
    assert (out / "model.safetensors").read_bytes() == b"weights"
    with pytest.raises(ModelFileError, match=r"model/model\.safetensors is not a file, nor a link"):
        prepare_directory(tmp_path / "model", tmp_path / "o", encoding="float32", progress=ignore)


@pytest.mark.parametrize("part", [1, 2, 3])
def test_split_model(tmp_path: Path, part: int) -> None:
    """Any part of a split model stands for the whole, with the same weights."""
    weights = write_llama(tmp_path / "m.gguf", tensors_per_file=8)
    prepare(tmp_path / f"m-{part:05d}-of-00003.gguf", tmp_path / "out")
    written = read_tensors(tmp_path / "out")
    assert written.keys() == weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)


def test_split_native_model(tmp_path: Path) -> None:
    """The parts of a model that MAX runs as it is are joined to the file that was split."""
    write_llama(tmp_path / "whole.gguf", encoding=Encoding.Q4_K)
    write_llama(tmp_path / "m.gguf", encoding=Encoding.Q4_K, tensors_per_file=8)
    seen: list[tuple[int, int]] = []
    weights = prepare(
        tmp_path / "m-00001-of-00003.gguf",
        tmp_path / "out",
        progress=lambda done, total: seen.append((done, total)),
    ).weight_path
    assert weights is not None
    assert seen[0][0] == 0
    assert seen[-1][0] == seen[-1][1] > 100_000
    joined, whole = GGUFReader(weights), GGUFReader(tmp_path / "whole.gguf")
    assert joined.fields.keys() == whole.fields.keys()
    for actual, expected in zip(joined.tensors, whole.tensors, strict=True):
        assert (actual.name, actual.tensor_type) == (expected.name, expected.tensor_type)
        np.testing.assert_array_equal(actual.data, expected.data, err_msg=actual.name)


def test_damaged_weights(tmp_path: Path) -> None:
    """A weight that is not a number is reported with its tensor, and nothing is written."""
    norm = np.full(HIDDEN, np.nan, np.float32)
    write_llama(tmp_path / "m.gguf", extra={"output_norm.weight": norm})
    with pytest.raises(ModelFileError, match=r"output_norm\.weight has values that are not finite"):
        prepare(tmp_path / "m.gguf", tmp_path / "o" / "out")
    assert list((tmp_path / "o").iterdir()) == []


def test_source_inside_output(tmp_path: Path) -> None:
    """A model is not replaced by what is read from it."""
    write_llama(tmp_path / "m.gguf", encoding=Encoding.Q4_K)
    weights = prepare(tmp_path / "m.gguf", tmp_path / "out").weight_path
    assert weights is not None
    with pytest.raises(ModelFileError, match="which would be replaced"):
        prepare(weights, tmp_path / "out", device="gpu", force=True)
    assert weights.exists()
