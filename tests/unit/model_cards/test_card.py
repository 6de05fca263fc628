"""Validation of model cards."""

from pathlib import Path
from textwrap import dedent

import pytest

from maxgate.errors import ConfigurationError
from maxgate.model_cards.loader import load_cards

CARD = """
    name: small
    prompt: chatml
    context_length: 100
    max:
      model_path: somewhere
"""


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(dedent(text))
    return file


def test_defaults(tmp_path: Path) -> None:
    """Names and tokenizer default to other fields of the card."""
    [card] = load_cards([write(tmp_path, "a.yaml", CARD)])
    assert (card.served_model_name, card.tokenizer, card.max.devices) == (
        "small",
        "somewhere",
        "cpu",
    )


def test_bundled_cards() -> None:
    """Without paths, the bundled cards are loaded."""
    cards = load_cards([])
    assert [(card.name, card.prompt, card.max.devices) for card in cards] == [
        ("all-minilm-l6-v2", "engine", "cpu"),
        ("llama-3.3-8b-instruct-q4_k_m", "llama3", "cpu"),
        ("llama-3.3-8b-instruct", "llama3", "gpu"),
        ("smollm2-135m-instruct", "chatml", "cpu"),
    ]
    assert cards[-1].sampling.max_tokens == 512


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "bad.yaml, line 1: not valid YAML"),
        ("[]", "the file: Input should be a valid dictionary"),
        (
            CARD.replace("chatml", "alpaca"),
            "prompt: Input should be 'llama3', 'chatml' or 'engine'",
        ),
        (CARD + "    idle_ttl: 5\n", "`idle_ttl` has no effect without `load: on_demand`"),
        (
            CARD.split("    max:", maxsplit=1)[0] + "    load: on_demand\n    tokenizer: x\n",
            "`load: on_demand` needs the section `max`",
        ),
        (CARD.replace("100", "0"), "context_length: Input should be greater than or equal to 1"),
        (
            CARD + "      colour: red\n",
            "max.colour: unknown field; docs/model-cards.md lists all fields",
        ),
        (CARD.replace("small", "a b"), "name: String should match"),
        (CARD.replace("    prompt: chatml\n", ""), "prompt: Field required"),
        (CARD + "    task: embeddings\n", "`dimensions` is required for embeddings"),
        (CARD + "    dimensions: 384\n", "and not allowed otherwise"),
        (CARD + "    source: {package: p}\n", "source: set either `file` or"),
        (
            CARD + "    temperatures: 1\n",
            "temperatures: unknown field; did you mean sampling.temperature?",
        ),
        (CARD + "    tokeniser: t\n", "tokeniser: unknown field; did you mean tokenizer?"),
        (CARD + "      device_s: gpu\n", "max.device_s: unknown field; did you mean max.devices?"),
        (CARD.replace("max:", "max_:"), "max_: unknown field; did you mean max?"),
        (
            CARD.replace("context", "contxt"),
            "contxt_length: unknown field; did you mean context_length?",
        ),
        (
            CARD + "    sampling: {topp: 1}\n",
            "sampling.topp: unknown field; did you mean sampling.top",
        ),
        (
            CARD.replace("chatml", "engine") + "    task: moderation\n",
            "`task: moderation` needs `prompt: llama3` or `chatml`",
        ),
        (
            CARD.replace("chatml", "engine") + "    require_tokenizer: true\n",
            "`require_tokenizer` contradicts `prompt: engine`",
        ),
        (
            CARD.replace("chatml", "engine") + "    prompt_logprobs: true\n",
            "`prompt_logprobs` contradicts `prompt: engine`",
        ),
        (
            CARD + "      extra_flags: [--enable-penalties]\n    prompt_logprobs: true\n",
            "`prompt_logprobs` contradicts `max.extra_flags: [--enable-penalties]`",
        ),
        (CARD[: CARD.index("    max:")], "`tokenizer` is required without `max.model_path`"),
    ],
)
def test_invalid_card(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file and the field."""
    file = write(tmp_path, "bad.yaml", text)
    with pytest.raises(ConfigurationError) as caught:
        load_cards([file])
    assert str(caught.value).startswith(f"model card {file}")
    assert message in str(caught.value)


def test_remote_engine(tmp_path: Path) -> None:
    """A card of an engine that is started elsewhere needs no section for MAX."""
    text = CARD[: CARD.index("    max:")] + "    tokenizer: owner/name\n"
    [card] = load_cards([write(tmp_path, "a.yaml", text)])
    assert (card.tokenizer, card.max) == ("owner/name", None)
    with pytest.raises(ConfigurationError, match="the card small has no section `max`"):
        card.require_max()


def test_duplicate_name(tmp_path: Path) -> None:
    """Two cards cannot share a name, aliases included."""
    write(tmp_path, "a.yaml", CARD)
    write(tmp_path, "b.yaml", CARD.replace("small", "other") + "    aliases: [small]\n")
    with pytest.raises(ConfigurationError, match=r"a.yaml and .*b.yaml: both have the name small"):
        load_cards([tmp_path])


def test_missing_path(tmp_path: Path) -> None:
    """A missing path is an error."""
    with pytest.raises(ConfigurationError, match="no such file or folder"):
        load_cards([tmp_path / "missing"])
