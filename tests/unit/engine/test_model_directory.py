"""A GGUF file becomes a directory that holds the same model, whole or not at all."""

import errno
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Encoding
from gguf import GGUFValueType, dequantize, quantize
from safetensors import safe_open
from tokenizers import Tokenizer

from maxgate.engine import model_directory
from maxgate.engine.command import PreparedModel, read_prepared
from maxgate.engine.model_directory import prepare_directory, prepare_model
from maxgate.errors import ModelFileError
from maxgate.gguf import safetensors
from tests.fakes.gguf_files import HEADS, HIDDEN, KV_HEADS, TOKENS, interleave, write_llama


def ignore(done: int, total: int) -> None:
    """A progress that nobody watches."""


def tensors(directory: Path) -> dict[str, np.ndarray]:
    read = {}
    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="np") as opened:
            read |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return read


def test_full_precision_weights_come_through_unchanged(tmp_path: Path) -> None:
    weights = write_llama(tmp_path / "m.gguf")
    seen: list[tuple[int, int]] = []
    prepared = prepare_model(
        tmp_path / "m.gguf",
        tmp_path / "out",
        device="cpu",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert prepared == PreparedModel(tmp_path / "out", "float32", None)
    assert read_prepared(tmp_path / "out") == prepared
    written = tensors(tmp_path / "out")
    assert written.keys() == weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(written[name], values, err_msg=name)
    size = sum(values.nbytes for values in weights.values())
    assert (seen[0], seen[-1]) == ((0, size), (size, size))


@pytest.mark.parametrize("encoding", [Encoding.Q4_1, Encoding.Q8_0, Encoding.Q5_0, Encoding.F16])
def test_other_encodings_are_dequantised(tmp_path: Path, encoding: Encoding) -> None:
    weights = write_llama(tmp_path / "m.gguf", encoding=encoding)
    prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="cpu", progress=ignore)
    written = tensors(tmp_path / "out")
    for name, values in weights.items():
        heads = HEADS if "q_proj" in name else KV_HEADS if "k_proj" in name else None
        stored = interleave(values, heads) if heads else values
        expected = values if values.ndim == 1 else dequantize(quantize(stored, encoding), encoding)
        actual = interleave(written[name], heads) if heads else written[name]
        np.testing.assert_array_equal(actual, expected, err_msg=name)


def test_for_the_gpu_weights_are_bfloat16(tmp_path: Path) -> None:
    weights = write_llama(tmp_path / "m.gguf")
    prepared = prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="gpu", progress=ignore)
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
def test_what_max_runs_as_it_is_stays_as_it_is(
    tmp_path: Path, encoding: Encoding, output_encoding: Encoding, name: str
) -> None:
    write_llama(tmp_path / "m.gguf", encoding=encoding, output_encoding=output_encoding)
    out = tmp_path / "out"
    prepared = prepare_model(tmp_path / "m.gguf", out, device="cpu", progress=ignore)
    weights = out / f"model.{name.upper()}.gguf"
    assert prepared == PreparedModel(out, name, weights)
    assert read_prepared(out) == prepared
    assert weights.read_bytes() == (tmp_path / "m.gguf").read_bytes()
    assert tensors(out) == {}


@pytest.mark.parametrize("output_encoding", [Encoding.Q4_0, Encoding.Q8_0, Encoding.F16])
def test_what_max_would_crash_on_is_dequantised(tmp_path: Path, output_encoding: Encoding) -> None:
    write_llama(tmp_path / "m.gguf", encoding=Encoding.Q4_0, output_encoding=output_encoding)
    prepared = prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="cpu", progress=ignore)
    assert (prepared.encoding, prepared.weight_path) == ("float32", None)


def test_on_the_gpu_it_is_dequantised(tmp_path: Path) -> None:
    write_llama(tmp_path / "m.gguf", encoding=Encoding.Q4_K)
    prepared = prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="gpu", progress=ignore)
    assert (prepared.encoding, prepared.weight_path) == ("bfloat16", None)


def test_the_files_beside_the_weights(tmp_path: Path) -> None:
    write_llama(tmp_path / "m.gguf")
    prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="cpu", progress=ignore)
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
    """Divisors as llama.cpp's converter writes them for Llama 3.1's scaling."""
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
def test_llama_3_rope_scaling_is_read_back_from_its_factors(tmp_path: Path, factor: float) -> None:
    write_llama(tmp_path / "m.gguf", extra={"rope_freqs.weight": llama3_factors(factor)})
    prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="cpu", progress=ignore)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_scaling"] == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert "rope_freqs" not in str(tensors(tmp_path / "out").keys())


def test_linear_rope_scaling_is_read_from_the_metadata(tmp_path: Path) -> None:
    metadata = {
        "llama.rope.scaling.type": ("linear", GGUFValueType.STRING),
        "llama.rope.scaling.factor": (4.0, GGUFValueType.FLOAT32),
    }
    write_llama(tmp_path / "m.gguf", metadata=metadata)
    prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="cpu", progress=ignore)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}


def test_large_models_are_split_over_files(tmp_path: Path) -> None:
    weights = write_llama(tmp_path / "m.gguf")
    from maxgate.gguf.reader import GGUFFile
    from maxgate.gguf.weights import entries

    shards = entries(GGUFFile(tmp_path / "m.gguf"))
    assert sum(safetensors.write_shards(tmp_path, shards, "F32", limit=40_000)) == sum(
        values.nbytes for values in weights.values()
    )
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == weights.keys()
    assert set(index["weight_map"].values()) == {f.name for f in tmp_path.glob("*.safetensors")}
    assert len(set(index["weight_map"].values())) > 2
    np.testing.assert_array_equal(tensors(tmp_path)["lm_head.weight"], weights["lm_head.weight"])


def test_pieces_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = write_llama(tmp_path / "m.gguf")
    monkeypatch.setattr("maxgate.gguf.reader._PIECE_BYTES", 1000)
    prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="cpu", progress=ignore)
    for name, values in tensors(tmp_path / "out").items():
        np.testing.assert_array_equal(values, weights[name], err_msg=name)


def truncated(path: Path, size: int) -> None:
    write_llama(path)
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b"not a model"), "is not a GGUF file"),
        (lambda path: truncated(path, 100), "is truncated or damaged"),
        (lambda path: truncated(path, 3000), "truncated or"),
        (lambda path: truncated(path, 100_000), "is truncated"),
        (lambda path: write_llama(path, architecture="qwen2"), "architecture 'qwen2'"),
        (lambda path: write_llama(path, tokenizer=None), "lacks the metadata"),
        (lambda path: write_llama(path, tokenizer="llama"), "a tokenizer of the kind 'llama'"),
        (lambda path: write_llama(path, pre="poro-chat"), "the pre-tokenizer 'poro-chat'"),
        (lambda path: None, "No such file"),
        (
            lambda path: write_llama(
                path, extra={"blk.0.ffn_gate_exps.weight": np.zeros((2, 2), np.float32)}
            ),
            "not part of a Llama model",
        ),
        (
            lambda path: write_llama(
                path, metadata={"llama.expert_count": (8, GGUFValueType.UINT32)}
            ),
            "a mixture of experts",
        ),
        (
            lambda path: write_llama(
                path, extra={"rope_freqs.weight": np.full(HIDDEN // HEADS // 2, 3.0, np.float32)}
            ),
            "rope factors that are not Llama 3.1's",
        ),
    ],
)
def test_what_cannot_be_served_is_said_and_leaves_nothing(
    tmp_path: Path, make: object, message: str
) -> None:
    make(tmp_path / "m.gguf")  # type: ignore[operator]
    with pytest.raises(ModelFileError, match=message):
        prepare_model(tmp_path / "m.gguf", tmp_path / "o" / "out", device="cpu", progress=ignore)
    assert not list((tmp_path / "o").glob("*")) if (tmp_path / "o").exists() else True


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_llama(tmp_path / "m.gguf")

    def no_space(*_: object, **__: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    monkeypatch.setattr(model_directory, "write_shards", no_space)
    with pytest.raises(ModelFileError, match="No space left on device"):
        prepare_model(tmp_path / "m.gguf", tmp_path / "o" / "out", device="cpu", progress=ignore)
    assert list((tmp_path / "o").iterdir()) == []


def test_a_disk_that_is_full_before_the_weights_is_said_too(tmp_path: Path) -> None:
    write_llama(tmp_path / "m.gguf")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(ModelFileError, match="File too large"):
            prepare_model(tmp_path / "m.gguf", tmp_path / "o" / "m", device="cpu", progress=ignore)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "o").iterdir()) == []


def test_a_disk_that_will_be_full_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_llama(tmp_path / "m.gguf")
    usage = model_directory.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(model_directory.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ModelFileError, match="too small"):
        prepare_model(tmp_path / "m.gguf", tmp_path / "out", device="cpu", progress=ignore)


def test_a_directory_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    write_llama(tmp_path / "m.gguf")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    arguments = (tmp_path / "m.gguf", tmp_path / "out")
    with pytest.raises(ModelFileError, match="Give --force"):
        prepare_model(*arguments, device="cpu", progress=ignore)
    assert (tmp_path / "out" / "mine").exists()
    prepare_model(*arguments, device="cpu", force=True, progress=ignore)
    assert not (tmp_path / "out" / "mine").exists()


def test_a_directory_of_another_origin_is_not_a_prepared_one(tmp_path: Path) -> None:
    assert read_prepared(tmp_path) is None


def test_a_directory_that_max_loads_is_taken_as_it_is(tmp_path: Path) -> None:
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


def test_text_in_a_damaged_file_that_is_none_is_said(tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_llama(file)
    file.write_bytes(file.read_bytes().replace(b"<|end|>", b"<|\xffnd|>", 1))
    with pytest.raises(ModelFileError, match=r"damaged: its metadata 'tokenizer\.ggml\.tokens'"):
        prepare_model(file, tmp_path / "o" / "m", device="cpu", progress=ignore)
    assert list((tmp_path / "o").iterdir()) == []
