"""all-MiniLM-L6-v2 in numpy, written from BERT's paper and the checkpoint's own files.

Independent of MAX and of the gateway: own tokenizer settings, one text at a time, no padding.
"""

import json
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

_erf = np.vectorize(math.erf, otypes=[np.float32])


class MiniLM:
    """Sentence embeddings as in sentence-transformers: mean over the tokens, normalised."""

    def __init__(self, directory: Path) -> None:
        self._weights = load_file(directory / "model.safetensors")
        self._config = json.loads((directory / "config.json").read_text())
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def tokens(self, text: str) -> list[int]:
        """Encode the text, special tokens included."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def embed(self, text: str) -> np.ndarray:
        """Embed the text."""
        ids = self.tokens(text)
        embeddings = "embeddings."
        hidden = (
            self._weights[embeddings + "word_embeddings.weight"][ids]
            + self._weights[embeddings + "position_embeddings.weight"][: len(ids)]
            + self._weights[embeddings + "token_type_embeddings.weight"][0]
        )
        hidden = self._norm(hidden, embeddings + "LayerNorm")
        for number in range(self._config["num_hidden_layers"]):
            hidden = self._layer(hidden, f"encoder.layer.{number}.")
        mean = hidden.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _layer(self, hidden: np.ndarray, name: str) -> np.ndarray:
        heads = self._config["num_attention_heads"]
        query, key, value = (
            np.stack(np.split(self._linear(hidden, f"{name}attention.self.{part}"), heads, axis=1))
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = np.concatenate(weights / weights.sum(axis=-1, keepdims=True) @ value, axis=1)
        output = self._linear(mixed, name + "attention.output.dense")
        hidden = self._norm(hidden + output, name + "attention.output.LayerNorm")
        inner = self._linear(hidden, name + "intermediate.dense")
        inner = inner * 0.5 * (1 + _erf(inner / math.sqrt(2)))
        return self._norm(
            hidden + self._linear(inner, name + "output.dense"), name + "output.LayerNorm"
        )

    def _linear(self, values: np.ndarray, name: str) -> np.ndarray:
        return values @ self._weights[name + ".weight"].T + self._weights[name + ".bias"]

    def _norm(self, values: np.ndarray, name: str) -> np.ndarray:
        centred = values - values.mean(axis=-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._config["layer_norm_eps"])
        return centred / scale * self._weights[name + ".weight"] + self._weights[name + ".bias"]
