"""`maxgate models`: the target directory, the card, the next command, and removal."""

import subprocess
import sys
from pathlib import Path

import pytest

from maxgate.cli.prepare import choose_card_file, resolve_target, to_card_name
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


@pytest.mark.parametrize("out", ["/", ".", "..", "a/.."])
def test_out_without_name(out: str) -> None:
    """A directory without a name of its own is refused."""
    with pytest.raises(ConfigurationError, match="has no name; give one, such as --out name"):
        resolve_target(out, "name", MODELS)


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
    result = run_freely(*args, cache=cache)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def run_freely(
    *args: str, cache: Path, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `maxgate models`, whatever it returns."""
    return subprocess.run(
        [sys.executable, "-m", "maxgate", "models", *args],
        env={"PATH": "", "PYTHONPATH": str(ROOT), "MAXGATE_CACHE_DIR": str(cache)},
        cwd=cache,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_prepare_gguf(tmp_path: Path) -> None:
    """A prepared GGUF file has a card that is found, and the command that serves it is printed."""
    write_llama(tmp_path / "Mine.gguf")
    lines = run("prepare", str(tmp_path / "Mine.gguf"), cache=tmp_path)
    file = tmp_path / "models" / "mine.yaml"
    program = Path(sys.executable).with_name("maxgate")
    assert lines == [
        f"{tmp_path}/models/mine is ready for `max serve` (float32)",
        f"Its model card is {file}. Serve it with:",
        "",
        f"    {program} serve --engine local --card {file}",
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


def test_prepare_split_gguf(tmp_path: Path) -> None:
    """A split model is named without the number of its part."""
    write_llama(tmp_path / "mine.gguf", tensors_per_file=8)
    lines = run("prepare", str(tmp_path / "mine-00001-of-00003.gguf"), cache=tmp_path)
    assert lines[0] == f"{tmp_path}/models/mine is ready for `max serve` (float32)"


def test_incomplete_model(tmp_path: Path) -> None:
    """A model without its weights is listed as incomplete, and prepared again if missing."""
    write_llama(tmp_path / "mine.gguf")
    run("prepare", str(tmp_path / "mine.gguf"), cache=tmp_path)
    weights = tmp_path / "models" / "mine" / "model.safetensors"
    card_file = tmp_path / "models" / "mine.yaml"
    card_file.write_text(card_file.read_text() + "aliases: [edited]\n")
    weights.unlink()
    result = run_freely("list", cache=tmp_path)
    [line] = [line for line in result.stdout.splitlines() if line.startswith("mine ")]
    assert (line.split()[2], result.stderr) == (
        "incomplete",
        f"mine is incomplete: {weights} is missing or cut off; prepare the model again with "
        "--force\n",
    )
    run("prepare", str(tmp_path / "mine.gguf"), "--if-missing", cache=tmp_path)
    assert weights.exists()
    assert "edited" in card_file.read_text()
    assert run("prepare", str(tmp_path / "mine.gguf"), "--if-missing", cache=tmp_path) == []


def test_prepare_directory_of_files(tmp_path: Path) -> None:
    """A directory is refused with the GGUF file in it that can be given."""
    write_llama(tmp_path / "mine.gguf")
    result = run_freely("prepare", str(tmp_path), cache=tmp_path)
    assert (result.returncode, result.stderr.splitlines()[-1]) == (
        2,
        f"maxgate: {tmp_path} is a directory; give a GGUF file, such as {tmp_path}/mine.gguf",
    )


def test_remove(tmp_path: Path) -> None:
    """A model is removed with its card, after a question that names both."""
    write_llama(tmp_path / "mine.gguf")
    run("prepare", str(tmp_path / "mine.gguf"), cache=tmp_path)
    models = tmp_path / "models"
    refused = run_freely("remove", "mine", cache=tmp_path, stdin="n\n")
    assert (refused.returncode, sorted(path.name for path in models.iterdir())) == (
        1,
        ["mine", "mine.yaml"],
    )
    assert f"{models}/mine (0.0 GB)\n{models}/mine.yaml\nRemove?" in refused.stdout
    run("remove", "mine", "--yes", cache=tmp_path)
    assert list(models.iterdir()) == []
    assert (tmp_path / "mine.gguf").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("llama-3.3-8b-instruct", "was downloaded by MAX"),
        ("smollm2-135m-instruct", "is not on this machine: no "),
        ("unknown", "no file or model card is named unknown"),
    ],
)
def test_nothing_to_remove(tmp_path: Path, model: str, message: str) -> None:
    """A model without prepared files is refused with the reason."""
    result = run_freely("remove", model, "--yes", cache=tmp_path)
    assert (result.returncode, message in result.stderr) == (2, True)


def test_remove_foreign_file(tmp_path: Path) -> None:
    """A directory with files of another origin stays, and so does its card."""
    write_llama(tmp_path / "mine.gguf")
    run("prepare", str(tmp_path / "mine.gguf"), cache=tmp_path)
    (tmp_path / "models" / "mine" / "notes.txt").touch()
    result = run_freely("remove", "mine", "--yes", cache=tmp_path)
    assert (result.returncode, "would delete notes.txt" in result.stderr) == (1, True)
    assert (tmp_path / "models" / "mine.yaml").exists()
