"""Text never becomes a special token, whatever the tokenizer's files declare."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from maxgate.errors import ConfigurationError
from maxgate.prompts.tokenizer import PromptTokenizer, load_tokenizer
from tests.oracles import smollm2


def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def test_added_token() -> None:
    """Added tokens that are not marked special are encoded as text too."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken("<tool_call>", special=False)])
    assert PromptTokenizer(tokenizer).encode("<tool_call>").length == len("<tool_call>")


def test_post_processor() -> None:
    """The tokenizer's own template adds no special tokens."""
    from tokenizers import processors

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    assert PromptTokenizer(tokenizer).encode("ab").length == 2


@pytest.mark.parametrize(
    "text", ["a <s> b", "<s>", "a\t <s>\n<s> b ", "<s2> <s>", "no token", "", "<s"]
)
@pytest.mark.parametrize(("lstrip", "rstrip"), [(False, False), (True, False), (True, True)])
def test_parsed_special_tokens(text: str, *, lstrip: bool, rstrip: bool) -> None:
    """With special tokens parsed, the ids equal those of the tokenizer itself."""
    plain = byte_tokenizer()
    plain.add_special_tokens([AddedToken("<s>", lstrip=lstrip, rstrip=rstrip), "<s2>"])
    expected = plain.encode(text, add_special_tokens=False).ids
    assert PromptTokenizer(plain).encode_special(text).to_list() == expected


def test_load(small_model: Path) -> None:
    """A tokenizer is read from a directory, a file, or a GGUF file."""
    places = [small_model, small_model / "tokenizer.json", smollm2.gguf_file()]
    encoded = [load_tokenizer(place).encode("Paris, 1889").to_list() for place in places]
    assert encoded == [smollm2.encode("Paris, 1889")] * 3


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"model": 1}'])
def test_load_damaged_file(tmp_path: Path, content: str) -> None:
    """The error names the damaged file."""
    file = tmp_path / "tokenizer.json"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match="cannot be read as a tokenizer"):
        load_tokenizer(tmp_path)
