"""`maxgate models prepare`: the target directory, the card and the next command."""

import subprocess
import sys
from pathlib import Path

import pytest

from maxgate.cli.models import choose_card_file, resolve_target, to_card_name
from maxgate.errors import ConfigurationError
from maxgate.model_cards.card import MaxFlags, ModelCard
from maxgate.model_cards.loader import load_cards
from tests.conftest import ROOT
from tests.fakes.gguf_files import write_llama

MODELS = Path("/data/models")


@pytest.mark.parametrize(
    ("out", "target"),
    [
        (None, MODELS / "name"),
        ("bare", MODELS / "bare"),
        ("./here", Path("here")),
        ("some/where", Path("some/where")),
        ("/else/where", Path("/else/where")),
        ("~/mine", Path.home() / "mine"),
    ],
)
def test_resolve_target(out: str | None, target: Path) -> None:
    """A bare name is in the models folder; everything else is a path."""
    assert resolve_target(out, "name", MODELS) == target


def card(name: str, model_path: str) -> ModelCard:
    """Return the card of a prepared model."""
    return ModelCard(
        name=name, prompt="engine", context_length=10, max=MaxFlags(model_path=model_path)
    )


@pytest.mark.parametrize(
    ("target", "file"),
    [
        (MODELS / "new-1.5b", MODELS / "new-1.5b.yaml"),
        (MODELS / "small", Path("/bundled/small.yaml")),
        (Path("/else/where"), Path("/else/where.yaml")),
    ],
)
def test_card_file(target: Path, file: Path) -> None:
    """A model without a card gets one beside its directory."""
    assert choose_card_file(target, MODELS, {Path("/bundled/small.yaml"): card("a", "small")}) == (
        file
    )


def test_name_taken() -> None:
    """A card is not written under the name of another model's card."""
    cards = {Path("/bundled/llama.yaml"): card("llama", "owner/llama")}
    with pytest.raises(ConfigurationError) as caught:
        choose_card_file(MODELS / "llama", MODELS, cards)
    assert str(caught.value) == (
        "the model card /bundled/llama.yaml has the name llama already; choose another with "
        "--out NAME"
    )


@pytest.mark.parametrize(
    ("file", "name"),
    [("my llama (8k).q4", "my-llama-8k-.q4"), ("a_b-1.5", "a_b-1.5"), ("()", "model")],
)
def test_card_name(file: str, name: str) -> None:
    """Characters that a model's name lacks become dashes."""
    assert to_card_name(file) == name


def run(*args: str, cache: Path) -> list[str]:
    """Run `maxgate models` and return the lines of its output."""
    result = subprocess.run(
        [sys.executable, "-m", "maxgate", "models", *args],
        env={"PATH": "", "PYTHONPATH": str(ROOT), "MAXGATE_CACHE_DIR": str(cache)},
        cwd=cache,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()


def test_prepare_gguf(tmp_path: Path) -> None:
    """A prepared GGUF file has a card that is found, and the command that serves it is printed."""
    write_llama(tmp_path / "Mine.gguf")
    lines = run("prepare", str(tmp_path / "Mine.gguf"), cache=tmp_path)
    file = tmp_path / "models" / "mine.yaml"
    assert lines == [
        f"{tmp_path}/models/mine is ready for `max serve` (float32)",
        f"Its model card is {file}. Serve it with:",
        "",
        f"    {sys.executable} -m maxgate serve --engine local --card {file}",
    ]
    assert [c.name for c in load_cards([file])] == ["mine"]
    [listed] = [line for line in run("list", cache=tmp_path) if line.startswith("mine ")]
    assert listed.split()[:3] == ["mine", "cpu", "ready"]


def test_edited_card(tmp_path: Path) -> None:
    """Only --force replaces a card that is there already."""
    write_llama(tmp_path / "mine.gguf")
    file = tmp_path / "models" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("{name: mine, prompt: engine, context_length: 7, max: {model_path: mine}}")
    run("prepare", str(tmp_path / "mine.gguf"), cache=tmp_path)
    assert load_cards([file])[0].context_length == 7
    run("prepare", str(tmp_path / "mine.gguf"), "--force", cache=tmp_path)
    assert load_cards([file])[0].context_length == 256
