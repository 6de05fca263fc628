"""Reads a prepared model with other libraries, and checks that its files fit together."""

import json
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from gguf import GGUFReader
from safetensors import safe_open
from tokenizers import Tokenizer

from maxgate.engine.prepared_model import is_complete, read_prepared
from tests.fakes.gguf_files import gguf_name


def check_prepared(directory: Path) -> dict[str, Any]:
    """Return what config.json, generation_config.json and tokenizer_config.json say, by file.

    Raises AssertionError if the files of the directory contradict each other.
    """
    prepared = read_prepared(directory)
    assert prepared is not None
    assert is_complete(directory)
    names = ("config.json", "generation_config.json", "tokenizer_config.json")
    content = {name: _read_json(directory / name) for name in names}
    config = content["config.json"]
    _check_tokenizer(directory, content)
    if prepared.weight_path is None:
        found = _read_safetensors(directory)
    else:
        found = {
            t.name: tuple(t.shape[::-1].tolist()) for t in GGUFReader(prepared.weight_path).tensors
        }
        found.pop("rope_freqs.weight", None)
    expected = _list_shapes(config)
    if prepared.weight_path is not None:
        expected = {gguf_name(name): shape for name, shape in expected.items()}
    assert found == expected
    return content


def _check_tokenizer(directory: Path, content: dict[str, Any]) -> None:
    config = content["config.json"]
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    ids = [*config["eos_token_id"], config["bos_token_id"], config["pad_token_id"]]
    assert config["eos_token_id"]
    assert all(tokenizer.id_to_token(index) is not None for index in ids if index is not None)
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = content["tokenizer_config.json"][name]
        assert token is None or tokenizer.token_to_id(token) is not None
    tokenizer.encode("ab 12 <|end|>")


def _list_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        shapes |= {
            f"model.layers.{layer}.{name}.weight": shape
            for name, shape in {
                "self_attn.q_proj": (queries, hidden),
                "self_attn.k_proj": (keys, hidden),
                "self_attn.v_proj": (keys, hidden),
                "self_attn.o_proj": (hidden, queries),
                "input_layernorm": (hidden,),
                "post_attention_layernorm": (hidden,),
                "mlp.gate_proj": (ffn, hidden),
                "mlp.up_proj": (ffn, hidden),
                "mlp.down_proj": (hidden, ffn),
            }.items()
        }
    return shapes


def _read_safetensors(directory: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="np") as opened:
            for name in opened.keys():  # noqa: SIM118  # not a dict
                values = opened.get_tensor(name)
                assert np.isfinite(values).all()
                found[name] = values.shape
    return found


def _read_json(file: Path) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{file} has {constant}, which is not JSON")

    return json.loads(file.read_text(), parse_constant=refuse)
