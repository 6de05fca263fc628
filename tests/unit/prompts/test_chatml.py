"""ChatML prompts of SmolLM2 equal those of its own chat template, encoded by tiktoken."""

import json
from pathlib import Path

import jinja2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxgate.errors import ConfigurationError
from maxgate.generation.request import Message, Role
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.llama3 import Llama3Format
from maxgate.prompts.tokenizer import PromptTokenizer
from tests.oracles import smollm2

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
IM_START, IM_END = 1, 2

roles: st.SearchStrategy[Role] = st.sampled_from(["system", "user", "assistant"])
# The template's text is encoded as a whole, so leading white space would merge with the line break
# of the header.
covered = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], max_codepoint=0x2FFFF)
    | st.sampled_from("\n\t\r"),
    max_size=120,
).filter(smollm2.is_covered)
texts = covered.filter(lambda text: not text[:1].isspace() and "<|" not in text)
dialogues = st.lists(
    st.builds(Message, roles, texts.map(lambda text: (text,))), min_size=1, max_size=6
)


@pytest.fixture(scope="session")
def chatml(small_tokenizer: PromptTokenizer) -> ChatMLFormat:
    """The format under test."""
    return ChatMLFormat(small_tokenizer, DEFAULT_SYSTEM)


def encode_template(template: str, messages: list[Message]) -> list[int]:
    """Render the template and encode the text between special tokens with tiktoken."""
    rendered = jinja2.Template(template, autoescape=False, keep_trailing_newline=True).render(
        messages=[{"role": m.role, "content": "".join(m.parts)} for m in messages],
        add_generation_prompt=True,
    )
    ids = []
    for turn in rendered.split("<|im_start|>")[1:]:
        text, end, after = turn.partition("<|im_end|>")
        ids += [IM_START, *smollm2.encode(text)]
        ids += [IM_END, *smollm2.encode(after)] if end else []
    return ids


@pytest.fixture(scope="session")
def template(small_model: Path) -> str:
    """The chat template in the model's own files."""
    config = json.loads((small_model / "tokenizer_config.json").read_text())
    return str(config["chat_template"])


@given(messages=dialogues)
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_dialogues(messages: list[Message], chatml: ChatMLFormat, template: str) -> None:
    """Ids equal those of the chat template."""
    assert chatml.encode(messages).to_list() == encode_template(template, messages)


@given(text=covered)
@settings(max_examples=1000, deadline=None)
def test_generated_texts(text: str, small_tokenizer: PromptTokenizer) -> None:
    """The tokenizer rebuilt from the GGUF file encodes as tiktoken does."""
    assert small_tokenizer.encode(text).to_list() == smollm2.encode(text)


@pytest.mark.parametrize(
    "text",
    [
        "Hello  world 2024\n\n\n  x",
        "12345678901234567890",
        "def f(x):\n\treturn x ** 2  # ok\n",
        "naïve Ünïcödé 漢字 👩‍👩‍👧‍👦 العربية",
        "\r\n \t trailing   ",
        "I'll we've DON'T 'S",
        "a\u0000b\u200bc\ufeff",
        "1\u00bd \u0663\u0664 \u2167",
    ],
)
def test_awkward_texts(text: str, small_tokenizer: PromptTokenizer) -> None:
    """White space, digits, Unicode and control characters encode as in tiktoken."""
    assert small_tokenizer.encode(text).to_list() == smollm2.encode(text)
    assert small_tokenizer.decode(small_tokenizer.encode(text).to_list()) == text


def test_special_tokens_in_text(chatml: ChatMLFormat, small_model: Path) -> None:
    """The name of a special token in a message never becomes that token, in any role."""
    added = json.loads((small_model / "tokenizer.json").read_text())["added_tokens"]
    special = {token["id"]: token["content"] for token in added}
    assert len(special) == 17
    for token in special.values():
        for role in ("system", "user", "assistant"):
            ids = chatml.encode([Message("system", ("",)), Message(role, (f"a{token}b",))])
            inside = [i for i in ids.to_list() if i in special]
            assert inside == [1, 2, 1, 2, 1], (token, role)


def test_default_system(chatml: ChatMLFormat) -> None:
    """The default system message is added only if there is none."""
    with_system = chatml.encode([Message("system", (DEFAULT_SYSTEM,)), Message("user", ("Hi",))])
    assert chatml.encode([Message("user", ("Hi",))]) == with_system


def test_wrong_format(small_tokenizer: PromptTokenizer) -> None:
    """A format raises ConfigurationError if the tokenizer lacks its special tokens."""
    with pytest.raises(ConfigurationError, match="does not fit the model"):
        Llama3Format(small_tokenizer)
