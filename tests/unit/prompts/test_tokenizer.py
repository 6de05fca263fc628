"""Text never becomes a control token, whatever the tokenizer's files say of it."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from maxgate.errors import ConfigurationError
from maxgate.prompts.tokenizer import PromptTokenizer, estimate_tokens, load_tokenizer
from tests.oracles import smollm2


def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def test_added_tokens_that_are_not_marked_special_cannot_be_spelled_either() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    assert PromptTokenizer(tokenizer).encode("<tool_call>").length == len("<tool_call>")


def test_a_template_in_the_tokenizer_adds_nothing() -> None:
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    assert PromptTokenizer(tokenizer).encode("ab").length == 2


def test_a_tokenizer_is_read_from_a_directory_a_file_or_a_gguf_file(small_model: Path) -> None:
    places = [small_model, small_model / "tokenizer.json", smollm2.gguf_file()]
    encoded = [load_tokenizer(place).encode("Paris, 1889").to_list() for place in places]
    assert encoded == [smollm2.encode("Paris, 1889")] * 3


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": 1}'])
def test_a_broken_tokenizer_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="cannot be read as a tokenizer"):
        load_tokenizer(tmp_path)


def test_tokens_are_estimated_from_the_length_of_a_text() -> None:
    assert [estimate_tokens(text) for text in ("", "a", "four", "fives")] == [0, 1, 1, 2]
