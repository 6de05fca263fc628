"""Encoding word by word gives the ids of the whole text."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from maxgate.prompts.bpe_cache import CachedBpeEncoder, find_split_pattern
from maxgate.prompts.tokenizer import PromptTokenizer
from tests.oracles import meta

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ascii_texts = st.one_of(
    st.text(st.characters(max_codepoint=127), max_size=60),
    # Characters that decide where words end.
    st.text(alphabet=" \t\n\r\v\f'sSdDlL7_.", max_size=30),
)


def gpt2_like() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    merges = [(a, b) for a in "Ġst's7" for b in "Ġst's7" if a != "'" or b != "'"]
    vocabulary |= {a + b: 256 + number for number, (a, b) in enumerate(merges)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.fixture(scope="session", params=["gpt2", "smollm", "llama3"])
def both(request: pytest.FixtureRequest) -> tuple[Tokenizer, CachedBpeEncoder]:
    """A tokenizer and the cached encoder for it."""
    if request.param == "smollm":
        small: PromptTokenizer = request.getfixturevalue("small_tokenizer")
        tokenizer = small._tokenizer
    elif request.param == "llama3":
        tokenizer = Tokenizer.from_str(meta.llama3_tokenizer_json())
        tokenizer.encode_special_tokens = True
    else:
        tokenizer = gpt2_like()
    split = find_split_pattern(tokenizer)
    assert split is not None
    return tokenizer, CachedBpeEncoder(split, lambda text: encode(tokenizer, text))


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


@given(text=ascii_texts | st.text(max_size=20))
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_texts(text: str, both: tuple[Tokenizer, CachedBpeEncoder]) -> None:
    """Ids equal those of the tokenizer."""
    tokenizer, cached = both
    assert cached.encode(text).to_list() == encode(tokenizer, text)


@pytest.mark.parametrize(
    "text",
    [
        "a  7",
        "a \n 7\n\n  b",
        "I'LL 'S it's ''s 's7",
        "\x1c \x85 \x00\x7f",
        "x" * 99 + " " * 99 + "7" * 99 + "'" * 99,
        "x" * 101 + " " * 101 + "7" * 101 + "'" * 101,
        "a word, " * 9000,
        "<|eot_id|><|im_end|> is text",
        "0\x1d",  # SmolLM2 has no token for it
        "\x1d \x1d a \x1d",
    ],
)
def test_awkward_texts(text: str, both: tuple[Tokenizer, CachedBpeEncoder]) -> None:
    """White space, very long words and special tokens encode as in the tokenizer."""
    tokenizer, cached = both
    assert cached.encode(text).to_list() == encode(tokenizer, text)


def test_cache() -> None:
    """Each word is encoded once."""
    encoded: list[str] = []
    cached = CachedBpeEncoder(r"\w+|\W", lambda word: encoded.append(word) or [len(word)])  # type: ignore[func-returns-value]
    assert cached.encode("to be or not to be").to_list() == [2, 1, 2, 1, 2, 1, 3, 1, 2, 1, 2]
    assert sorted(encoded) == [" ", "be", "not", "or", "to"]


def test_long_words() -> None:
    """Very long words are not cached."""
    encoded: list[str] = []
    cached = CachedBpeEncoder(r"\w+", lambda word: encoded.append(word) or [1])  # type: ignore[func-returns-value]
    for _ in range(2):
        cached.encode("x" * 101)
    assert encoded == ["x" * 101] * 2


def modified(**parts: object) -> Tokenizer:
    tokenizer = gpt2_like()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        modified(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        modified(pre_tokenizer=pre_tokenizers.Whitespace()),
        modified(
            pre_tokenizer=pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(r"\s+"), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        ),
        modified(normalizer=normalizers.Lowercase()),
        modified(model=models.WordPiece(vocab={"a": 0, "[UNK]": 1})),
        Tokenizer(models.BPE(vocab={"a": 0}, merges=[])),
    ],
)
def test_unknown_tokenizer(tokenizer: Tokenizer) -> None:
    """There is no split pattern for a tokenizer that is not known exactly."""
    assert find_split_pattern(tokenizer) is None


def test_added_token() -> None:
    """The name of an added token is encoded as text."""
    tokenizer = gpt2_like()
    tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    assert PromptTokenizer(tokenizer).encode("<tool>").length == len("<tool>")
