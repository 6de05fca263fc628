"""A GGUF file is a Llama model that MAX serves, or is refused by name."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFEndian, GGUFValueType

from maxgate.gguf.config import model_config
from maxgate.gguf.errors import ModelFileError
from maxgate.gguf.llama import LlamaFile, LlamaShape
from maxgate.gguf.tokenizer import tokenizer_from_gguf
from tests.fakes.gguf_files import HEADS, HIDDEN, KV_HEADS, TOKENS, write_llama

UINT, FLOAT, TEXT = GGUFValueType.UINT32, GGUFValueType.FLOAT32, GGUFValueType.STRING
ARRAY, BOOL, UINT64 = GGUFValueType.ARRAY, GGUFValueType.BOOL, GGUFValueType.UINT64


def read(path: Path) -> None:
    """Read everything that `maxgate models prepare` reads before it writes."""
    model = LlamaFile(path)
    model_config(model, dtype="float32")
    tokenizer_from_gguf(model.file, model.vocabulary)


def test_shape(tmp_path: Path) -> None:
    """The sizes are those of the settings."""
    write_llama(tmp_path / "m.gguf")
    assert LlamaFile(tmp_path / "m.gguf").shape == LlamaShape(
        hidden=HIDDEN,
        layers=2,
        heads=HEADS,
        kv_heads=KV_HEADS,
        feed_forward=512,
        context_length=256,
        vocabulary=len(TOKENS),
    )


def test_tied_embeddings(tmp_path: Path) -> None:
    """A file without an output matrix shares it with the embeddings."""
    write_llama(tmp_path / "m.gguf", without={"output.weight"})
    assert model_config(LlamaFile(tmp_path / "m.gguf"), dtype="float32")["tie_word_embeddings"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("attention.head_count", ([4, 4], ARRAY), "a value per layer in 'llama.attention.head"),
        ("attention.head_count_kv", ([2, 1], ARRAY), "a value per layer in 'llama.attention.head"),
        ("feed_forward_length", ([512, 256], ARRAY), "a value per layer in 'llama.feed_forward"),
        ("attention.head_count", (3, UINT), "3 attention heads for 256 dimensions"),
        ("attention.head_count", (0, UINT), "0 as 'llama.attention.head_count', which must be"),
        ("attention.head_count_kv", (3, UINT), "4 attention heads for 3 key-value heads"),
        ("attention.key_length", (128, UINT), "128 as 'llama.attention.key_length'; MAX's Llama"),
        ("rope.dimension_count", (32, UINT), "32 as 'llama.rope.dimension_count'; MAX's Llama"),
        ("attention.sliding_window", (128, UINT), "a sliding window of 128 tokens"),
        ("attention.clamp_kqv", (8.0, FLOAT), "8.0 as 'llama.attention.clamp_kqv'"),
        ("attention.causal", (False, BOOL), "False as 'llama.attention.causal'"),
        ("logit_scale", (0.5, FLOAT), "0.5 as 'llama.logit_scale'"),
        ("expert_count", (8, UINT), "a mixture of experts"),
        ("rope.scaling.type", ("linear", TEXT), "rope scaling of the type 'linear'"),
        ("rope.scaling.type", ("yarn", TEXT), "rope scaling of the type 'yarn'"),
        ("attention.new_trick", (1, UINT), "the setting 'llama.attention.new_trick' \\(1\\)"),
        ("block_count", (3, UINT), "lacks the tensor blk.2.attn_norm.weight and 8 more of the 29"),
        ("block_count", (1, UINT), "'blk.1.attn_q.weight', which is not part of 1 Llama layers"),
        ("block_count", (2**40, UINT64), "1099511627776 as 'llama.block_count', which must be"),
        ("block_count", ("2", TEXT), "'2' as 'llama.block_count', which must be an integer"),
        ("vocab_size", (100, UINT), "100 as 'llama.vocab_size', which must be"),
        ("context_length", (0, UINT), "0 as 'llama.context_length', which must be"),
        ("feed_forward_length", (256, UINT), "the shape \\(512, 256\\) instead of \\(256, 256\\)"),
        ("rope.freq_base", (float("inf"), FLOAT), "inf as 'llama.rope.freq_base', which must be"),
        ("attention.layer_norm_rms_epsilon", (float("nan"), FLOAT), "nan as 'llama.attention.lay"),
    ],
)  # fmt: skip
def test_setting(tmp_path: Path, key: str, value: tuple[Any, Any], message: str) -> None:
    """A setting that MAX's Llama lacks, or that contradicts the tensors, is refused by name."""
    write_llama(tmp_path / "m.gguf", metadata={f"llama.{key}": value})
    with pytest.raises(ModelFileError, match=message):
        read(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.attention.sliding_window", (256, UINT)),
        ("llama.attention.key_length", (64, UINT)),
        ("llama.expert_count", (0, UINT)),
        ("llama.attention.causal", (True, BOOL)),
        ("llama.attention.clamp_kqv", (0.0, FLOAT)),
        ("llama.rope.scaling.type", ("none", TEXT)),
        ("quantize.imatrix.file", ("calibration.dat", TEXT)),
        ("general.quantization_version", (2, UINT)),
    ],
)
def test_setting_without_effect(tmp_path: Path, key: str, value: tuple[Any, Any]) -> None:
    """A setting that changes nothing is accepted."""
    write_llama(tmp_path / "m.gguf", metadata={key: value})
    read(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"tokenizer.ggml.pre": ("poro-chat", TEXT)}, "the pre-tokenizer 'poro-chat'"),
        ({"tokenizer.ggml.pre": ("default", TEXT)}, "the pre-tokenizer 'default'"),
        ({"tokenizer.ggml.model": ("llama", TEXT)}, "tokenizer model SentencePiece \\('llama'\\)"),
        ({"tokenizer.ggml.model": ("bert", TEXT)}, "the tokenizer model 'bert'"),
        ({"tokenizer.ggml.eos_token_id": (999, UINT)}, "999 as 'tokenizer.ggml.eos_token_id'"),
        ({"tokenizer.ggml.tokens": (["a"] * 97, ARRAY)}, "has the token 'a' twice"),
        ({"tokenizer.ggml.tokens": (TOKENS[:-1], ARRAY)}, "not a list of one int32 per token"),
        ({"tokenizer.ggml.tokens": ("text", TEXT)}, "'tokenizer.ggml.tokens' is not a list of"),
        ({"tokenizer.ggml.token_type": ([9] * 97, ARRAY)}, "has an unknown type"),
        ({"tokenizer.ggml.merges": (["a b", "a Q9"], ARRAY)}, "\\[1\\] has an unknown token"),
        ({"tokenizer.ggml.merges": (["ab"], ARRAY)}, "merges'\\[0\\] has an unknown token"),
        ({"tokenizer.ggml.normalizer.lowercase": (True, BOOL)}, "normalizer.lowercase"),
        ({"tokenizer.ggml.new_rule": (True, BOOL)}, "the setting 'tokenizer.ggml.new_rule'"),
        ({"tokenizer.chat_template": (1, UINT)}, "1 as 'tokenizer.chat_template', which must be"),
        ({"tokenizer.ggml.add_bos_token": (1, UINT)}, "which must be true or false"),
        ({"general.type": ("adapter", TEXT)}, "the type 'adapter'"),
        ({"general.quantization_version": (1, UINT)}, "1 as 'general.quantization_version'"),
        ({"mlama.rope.freq_base": (5e5, FLOAT)}, "'mlama.rope.freq_base', which seems to be 'lla"),
        ({"general.alignment": (24, UINT)}, "'general.alignment' is not a power of two"),
    ],
)  # fmt: skip
def test_metadata(tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    """Other metadata that is unknown or damaged is refused by name."""
    alignment = metadata.get("general.alignment")
    write_llama(tmp_path / "m.gguf", metadata=metadata if alignment is None else None)
    if alignment is not None:
        write_llama(tmp_path / "m.gguf", metadata={"general.alignment": (32, UINT)})
        content = (tmp_path / "m.gguf").read_bytes()
        position = content.index(b"general.alignment") + len("general.alignment") + 4
        (tmp_path / "m.gguf").write_bytes(content[:position] + b"\x18" + content[position + 1 :])
    with pytest.raises(ModelFileError, match=message):
        model = LlamaFile(tmp_path / "m.gguf")
        tokenizer_from_gguf(model.file)
        model.file.read_text("tokenizer.chat_template")


def rewrite(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Return a function that writes a model with other bytes."""

    def write(path: Path) -> None:
        write_llama(path)
        path.write_bytes(change(path.read_bytes()))

    return write


def with_tensor_type(number: int) -> Callable[[Path], object]:
    """Return a function that writes a model whose output_norm has another encoding."""
    name = b"output_norm.weight"
    stop = len(name) + 4 + 8  # the name, the number of dimensions and the dimension

    def change(content: bytes) -> bytes:
        position = content.index(name) + stop
        return content[:position] + number.to_bytes(4, "little") + content[position + 4 :]

    return rewrite(change)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.symlink_to("gone"), "m.gguf: is a link to a missing file"),
        (lambda path: path.mkdir(), "is not a regular file|Is a directory"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.write_bytes(b""), "is not a GGUF file .*: download it again"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html>"), "is not a GGUF file .*: a web page"),
        (
            lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"),
            "a Git LFS pointer",
        ),
        (rewrite(lambda b: b[:100]), "truncated or damaged: its header cannot be read"),
        (rewrite(lambda b: b[:3000]), "truncated or damaged"),
        (rewrite(lambda b: b[:100_000]), "is truncated: 100,000 bytes of at least"),
        (rewrite(lambda b: b[:-1]), "is truncated"),
        (rewrite(lambda b: b[:4] + b"\x01" + b[5:]), "GGUF version 1; versions 2 and 3"),
        (lambda path: write_llama(path, byte_order=GGUFEndian.BIG), "is a big-endian GGUF file"),
        (rewrite(lambda b: b[:8] + b"\xff" * 8 + b[16:]), "claims 18,446,744,073,709,551,615 ten"),
        (rewrite(lambda b: b[:16] + b"\xff" * 8 + b[24:]), "claims 18,446,744,073,709,551,615 met"),
        (rewrite(lambda b: b[:24] + b"\xff" * 8 + b[32:]), "bytes in a key of the metadata"),
        (
            rewrite(lambda b: b.replace(b"<|end|>", b"<|\xffnd|>", 1)),
            "its metadata 'tokenizer.ggml.tokens'\\[96\\] is not valid UTF-8",
        ),
        (
            rewrite(lambda b: b.replace(b"blk.1.attn_q", b"blk.1.attn_k", 1)),
            "the tensor 'blk.1.attn_k.weight' twice",
        ),
        (with_tensor_type(138), "'output_norm.weight' in the unknown encoding 138. Download"),
        (with_tensor_type(24), "'output_norm.weight' has|the offset"),
        (lambda path: write_llama(path, architecture="qwen2"), "the architecture 'qwen2'"),
        (lambda path: write_llama(path, tokenizer=None), "has no tokenizer"),
        (lambda path: write_llama(path, pre=None), "gguf-new-metadata --pre-tokenizer llama-bpe"),
        (
            lambda path: write_llama(path, without={"tokenizer.ggml.eos_token_id"}),
            "names no token that ends a response",
        ),
        (
            lambda path: write_llama(path, without={"llama.context_length"}),
            "lacks the metadata 'llama.context_length'",
        ),
        (
            lambda path: write_llama(path, without={"blk.1.ffn_down.weight"}),
            "lacks the tensor blk.1.ffn_down.weight of the 20 that its 2 layers need",
        ),
        (
            lambda path: write_llama(
                path, extra={"blk.0.ffn_gate_exps.weight": np.zeros((2, 2), np.float32)}
            ),
            "not part of 2 Llama layers",
        ),
        (
            lambda path: write_llama(
                path, extra={"blk.0.attn_q.bias": np.zeros(HIDDEN, np.float32)}
            ),
            "'blk.0.attn_q.bias', which is a bias",
        ),
        (
            lambda path: write_llama(
                path, extra={"output_norm.weight": np.zeros(HIDDEN, np.int32)}
            ),
            "'output_norm.weight' in the encoding I32, which cannot be converted",
        ),
        (
            lambda path: write_llama(
                path, extra={"rope_freqs.weight": np.full(HIDDEN // HEADS // 2, 3.0, np.float32)}
            ),
            "rope factors that are not Llama 3.1's",
        ),
    ],
)
def test_invalid_file(tmp_path: Path, write: Callable[[Path], object], message: str) -> None:
    """A file that is damaged or of another kind is refused with the reason and the way out."""
    write(tmp_path / "m.gguf")
    with pytest.raises(ModelFileError, match=message):
        read(tmp_path / "m.gguf")


def test_endless_array(tmp_path: Path) -> None:
    """An array that claims more elements than the file has bytes is refused at once."""
    metadata = {"x.y": ([7, 7, 7], ARRAY)}
    write_llama(tmp_path / "m.gguf", metadata=metadata)
    content = (tmp_path / "m.gguf").read_bytes()
    position = content.index(b"x.y") + 3 + 8
    count = (2**50).to_bytes(8, "little")
    (tmp_path / "m.gguf").write_bytes(content[:position] + count + content[position + 8 :])
    with pytest.raises(ModelFileError, match="bytes in its header, of at most"):
        read(tmp_path / "m.gguf")


def test_nested_array(tmp_path: Path) -> None:
    """Arrays of arrays, which no model uses, are refused."""
    write_llama(tmp_path / "m.gguf", metadata={"x.y": ([[1], [2]], ARRAY)})
    with pytest.raises(ModelFileError, match=r"its metadata 'x\.y' is an array of arrays"):
        read(tmp_path / "m.gguf")


def test_missing_part(tmp_path: Path) -> None:
    """The missing parts of a split model are named."""
    write_llama(tmp_path / "m.gguf", tensors_per_file=5)
    for number in (2, 4):
        (tmp_path / f"m-{number:05d}-of-00005.gguf").unlink()
    first = tmp_path / "m-00001-of-00005.gguf"
    with pytest.raises(ModelFileError) as caught:
        read(first)
    assert str(caught.value) == (
        f"{first} is a part of a model in 5 files; {tmp_path} lacks m-00002-of-00005.gguf, "
        "m-00004-of-00005.gguf. Download all of them to one folder."
    )
    first.rename(tmp_path / "renamed.gguf")
    with pytest.raises(ModelFileError, match="which cannot be found by its name"):
        read(tmp_path / "renamed.gguf")


def test_parts_of_two_models(tmp_path: Path) -> None:
    """Parts that do not belong together are refused."""
    write_llama(tmp_path / "m.gguf", tensors_per_file=8)
    part = tmp_path / "m-00002-of-00003.gguf"
    part.write_bytes((tmp_path / "m-00003-of-00003.gguf").read_bytes())
    with pytest.raises(ModelFileError, match="is not part 2 of 3, as its name says"):
        read(tmp_path / "m-00001-of-00003.gguf")
