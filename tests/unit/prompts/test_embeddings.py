"""Inputs of embedding models: special tokens, vocabulary and length."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from maxgate.errors import InvalidRequest
from maxgate.generation.errors import InputTooLong
from maxgate.prompts.embeddings import EmbeddingFormat

CLS, SEP, PAD, UNK, HELLO = 101, 102, 0, 100, 7592


@pytest.fixture(scope="session")
def minilm(embedding_model: Path) -> EmbeddingFormat:
    """The format of the model started by `make run EMBEDDINGS=1`."""
    return EmbeddingFormat(
        Tokenizer.from_file(str(embedding_model / "tokenizer.json")), max_tokens=256
    )


def test_encode(minilm: EmbeddingFormat, embedding_model: Path) -> None:
    """Ids equal those of the model's own tokenizer."""
    own = Tokenizer.from_file(str(embedding_model / "tokenizer.json"))
    own.no_padding()
    for text in ("Hello, world!", "Écris «bonjour».", "漢字 и кириллица", "a\tb\n\nc", "🙂"):
        assert minilm.encode(text, 0).to_list() == own.encode(text).ids


def test_special_tokens_in_text(minilm: EmbeddingFormat) -> None:
    """The name of a special token in a text never becomes that token."""
    ids = minilm.encode("a [SEP] [CLS] [PAD] b", 0).to_list()
    assert (ids[0], ids[-1]) == (CLS, SEP)
    assert not {CLS, SEP, PAD} & set(ids[1:-1])


@pytest.mark.parametrize("ids", [[HELLO], [CLS, HELLO, SEP]])
def test_token_array(minilm: EmbeddingFormat, ids: list[int]) -> None:
    """Special tokens are added to token arrays that lack them."""
    assert minilm.check(ids, 0).to_list() == [CLS, HELLO, SEP]


def test_incomplete_special_tokens(minilm: EmbeddingFormat) -> None:
    """Only one of the two special tokens counts as text."""
    assert minilm.check([CLS], 0).to_list() == [CLS, CLS, SEP]
    assert minilm.check([UNK, SEP], 0).to_list() == [CLS, UNK, SEP, SEP]


@pytest.mark.parametrize("token", [-1, 30522, 2**63, PAD])
def test_invalid_token_ids(minilm: EmbeddingFormat, token: int) -> None:
    """Ids outside the vocabulary and padding are rejected."""
    with pytest.raises(InvalidRequest, match=rf"input\[3\]\[1\]': {token} is not a token id"):
        minilm.check([HELLO, token], 3)


def test_context_length(minilm: EmbeddingFormat) -> None:
    """The context length includes the special tokens."""
    assert minilm.check([HELLO] * 254, 0).length == 256
    for too_long in (
        lambda: minilm.check([HELLO] * 255, 0),
        lambda: minilm.check([10**9] * 255, 0),
        lambda: minilm.encode("hello " * 255, 0),
    ):
        with pytest.raises(InputTooLong, match=r"is 256 tokens.*has 257 tokens"):
            too_long()


def test_long_text(minilm: EmbeddingFormat) -> None:
    """Text that is far too long is rejected by its start."""
    with pytest.raises(InputTooLong, match="at least 1366 tokens"):
        minilm.encode("hello " * 10_000, 0)
    assert minilm.encode(" " * 65_536, 0).length == 2
    with pytest.raises(InvalidRequest, match="it has 65537 characters; this model accepts at most"):
        minilm.encode(" " * 65_537, 0)
