"""What a model for embeddings sees of a text or of token ids."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from maxgate.errors import InvalidRequest
from maxgate.generation.errors import InputTooLong
from maxgate.prompts.embeddings import EmbeddingFormat

CLS, SEP, PAD, UNK, HELLO = 101, 102, 0, 100, 7592


@pytest.fixture(scope="session")
def minilm(embedding_model: Path) -> EmbeddingFormat:
    """The format of the model that `make run EMBEDDINGS=1` starts."""
    return EmbeddingFormat(Tokenizer.from_file(str(embedding_model / "tokenizer.json")), limit=256)


def test_a_text_is_what_the_models_own_tokenizer_makes_of_it(
    minilm: EmbeddingFormat, embedding_model: Path
) -> None:
    own = Tokenizer.from_file(str(embedding_model / "tokenizer.json"))
    own.no_padding()
    for text in ("Hello, world!", "Écris «bonjour».", "漢字 и кириллица", "a\tb\n\nc", "🙂"):
        assert minilm.encode(text, 0).to_list() == own.encode(text).ids


def test_text_cannot_spell_special_tokens(minilm: EmbeddingFormat) -> None:
    ids = minilm.encode("a [SEP] [CLS] [PAD] b", 0).to_list()
    assert (ids[0], ids[-1]) == (CLS, SEP)
    assert not {CLS, SEP, PAD} & set(ids[1:-1])


@pytest.mark.parametrize("ids", [[HELLO], [CLS, HELLO, SEP]])
def test_token_ids_may_have_the_special_tokens_or_not(
    minilm: EmbeddingFormat, ids: list[int]
) -> None:
    assert minilm.take(ids, 0).to_list() == [CLS, HELLO, SEP]


def test_half_a_frame_is_text(minilm: EmbeddingFormat) -> None:
    assert minilm.take([CLS], 0).to_list() == [CLS, CLS, SEP]
    assert minilm.take([UNK, SEP], 0).to_list() == [CLS, UNK, SEP, SEP]


@pytest.mark.parametrize("token", [-1, 30522, 2**63, PAD])
def test_ids_that_are_not_the_models_are_refused(minilm: EmbeddingFormat, token: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"input\[3\]\[1\]': {token} is not a token id"):
        minilm.take([HELLO, token], 3)


def test_the_context_is_a_limit_for_all_tokens(minilm: EmbeddingFormat) -> None:
    assert minilm.take([HELLO] * 254, 0).length == 256
    for too_long in (
        lambda: minilm.take([HELLO] * 255, 0),
        lambda: minilm.take([10**9] * 255, 0),
        lambda: minilm.encode("hello " * 255, 0),
    ):
        with pytest.raises(InputTooLong, match=r"is 256 tokens.*has 257 tokens"):
            too_long()


def test_long_text_is_judged_by_its_beginning(minilm: EmbeddingFormat) -> None:
    with pytest.raises(InputTooLong, match="at least 1366 tokens"):
        minilm.encode("hello " * 10_000, 0)
    assert minilm.encode(" " * 65_536, 0).length == 2
    with pytest.raises(InvalidRequest, match="it has 65537 characters; this model takes at most"):
        minilm.encode(" " * 65_537, 0)
