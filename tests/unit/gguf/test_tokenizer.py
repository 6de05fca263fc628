"""The Llama 3 tokenizer rebuilt from a GGUF file is Meta's."""

import pytest
from gguf import GGUFWriter, TokenType
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from maxgate.gguf.reader import GGUFFile
from maxgate.gguf.tokenizer import tokenizer_from_gguf
from maxgate.prompts.tokenizer import PromptTokenizer
from tests.oracles import meta

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Rebuild the tokenizer from a file as llama.cpp's converter writes it for Llama 3."""
    vocabulary, merges = meta.vocabulary_and_merges()
    special = meta.special_tokens()
    path = tmp_path_factory.mktemp("gguf") / "llama3.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*sorted(vocabulary, key=vocabulary.__getitem__), *special])
    types = [TokenType.NORMAL] * len(vocabulary) + [TokenType.CONTROL] * len(special)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in merges])
    writer.add_bos_token_id(128000)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return tokenizer_from_gguf(GGUFFile(path))


@given(text=st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_encode(text: str, rebuilt: Tokenizer) -> None:
    """Any text has the same ids as with Meta's own tokenizer."""
    expected = meta.chat_format().tokenizer.encode(text, bos=False, eos=False)
    assert PromptTokenizer(rebuilt).encode(text).to_list() == expected


def test_control_tokens(rebuilt: Tokenizer) -> None:
    """Control tokens have Meta's ids, and text cannot encode to them."""
    special = meta.chat_format().tokenizer.special_tokens
    added = {token.content: i for i, token in rebuilt.get_added_tokens_decoder().items()}
    assert added == special
    tokenizer = PromptTokenizer(rebuilt)
    assert all(max(tokenizer.encode(token).to_list()) < 128000 for token in special)
