"""Words for themselves have the ids that they have together."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from maxgate.prompts.bpe_cache import CachedBpeEncoder, split_of
from maxgate.prompts.tokenizer import PromptTokenizer
from tests.oracles import meta

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ascii_texts = st.one_of(
    st.text(st.characters(max_codepoint=127), max_size=60),
    # Where words end is decided by these.
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
    """A tokenizer, and what splits for it."""
    if request.param == "smollm":
        small: PromptTokenizer = request.getfixturevalue("small_tokenizer")
        tokenizer = small._tokenizer
    elif request.param == "llama3":
        tokenizer = Tokenizer.from_str(meta.llama3_tokenizer_json())
        tokenizer.encode_special_tokens = True
    else:
        tokenizer = gpt2_like()
    split = split_of(tokenizer)
    assert split is not None
    return tokenizer, CachedBpeEncoder(split, lambda text: ids_of(tokenizer, text))


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


@given(text=ascii_texts | st.text(max_size=20))
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_ids_are_those_of_the_tokenizer(
    text: str, both: tuple[Tokenizer, CachedBpeEncoder]
) -> None:
    tokenizer, words = both
    assert words.encode(text).to_list() == ids_of(tokenizer, text)


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
def test_awkward_texts_too(text: str, both: tuple[Tokenizer, CachedBpeEncoder]) -> None:
    tokenizer, words = both
    assert words.encode(text).to_list() == ids_of(tokenizer, text)


def test_a_word_is_looked_up_once() -> None:
    asked: list[str] = []
    words = CachedBpeEncoder(r"\w+|\W", lambda word: asked.append(word) or [len(word)])  # type: ignore[func-returns-value]
    assert words.encode("to be or not to be").to_list() == [2, 1, 2, 1, 2, 1, 3, 1, 2, 1, 2]
    assert sorted(asked) == [" ", "be", "not", "or", "to"]


def test_very_long_words_are_not_kept() -> None:
    asked: list[str] = []
    words = CachedBpeEncoder(r"\w+", lambda word: asked.append(word) or [1])  # type: ignore[func-returns-value]
    for _ in range(2):
        words.encode("x" * 101)
    assert asked == ["x" * 101] * 2


def changed(**parts: object) -> Tokenizer:
    tokenizer = gpt2_like()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [
        changed(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        changed(pre_tokenizer=pre_tokenizers.Whitespace()),
        changed(
            pre_tokenizer=pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(r"\s+"), behavior="isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
        ),
        changed(normalizer=normalizers.Lowercase()),
        changed(model=models.WordPiece(vocab={"a": 0, "[UNK]": 1})),
        Tokenizer(models.BPE(vocab={"a": 0}, merges=[])),
    ],
)
def test_a_tokenizer_that_is_not_known_is_left_alone(tokenizer: Tokenizer) -> None:
    assert split_of(tokenizer) is None


def test_added_tokens_cannot_be_spelled_by_words_either() -> None:
    tokenizer = gpt2_like()
    tokenizer.add_tokens([AddedToken("<tool>", special=False)])
    assert PromptTokenizer(tokenizer).encode("<tool>").length == len("<tool>")
