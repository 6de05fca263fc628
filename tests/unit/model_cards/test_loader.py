"""Finding the files of a card: a path, a prepared model or a complete download."""

from pathlib import Path

import pytest

from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, load_cards, suggest_tokenizer_command

REPOSITORY = "owner/name"


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path / "cache", tmp_path / "hub")


def download(files: ModelFiles, *names: str) -> Path:
    """Write a download as huggingface_hub does."""
    repository = files.hub_cache / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc\n")
    for name in names:
        (snapshot / name).write_text("{}")
    return snapshot


def test_prepared_model(files: ModelFiles) -> None:
    """A prepared model is found by name."""
    prepared = files.models_dir / "small"
    prepared.mkdir(parents=True)
    assert files.find("small") == prepared


def test_downloaded_repository(files: ModelFiles) -> None:
    """A downloaded repository is found, and its tokenizer."""
    snapshot = download(files, "tokenizer.json")
    assert files.find(REPOSITORY) == snapshot
    assert files.find_tokenizer(REPOSITORY) == snapshot / "tokenizer.json"


def test_incomplete_download(files: ModelFiles) -> None:
    """A download without its tokenizer has none yet."""
    download(files, "config.json")
    assert files.find_tokenizer(REPOSITORY) is None


def test_missing_files(files: ModelFiles) -> None:
    """Files that are not here are not found."""
    assert (files.find("small"), files.find_tokenizer(REPOSITORY)) == (None, None)


def test_tokenizer_file(files: ModelFiles, tmp_path: Path) -> None:
    """A card may name the tokenizer's file itself."""
    file = tmp_path / "model.gguf"
    file.touch()
    assert files.find_tokenizer(str(file)) == file


def test_hub_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The download folder follows HF_HUB_CACHE and HF_HOME."""
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    assert ModelFiles.locate(tmp_path).hub_cache == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", "/hf")
    assert ModelFiles.locate(tmp_path).hub_cache == Path("/hf/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/cache")
    assert ModelFiles.locate(tmp_path).hub_cache == Path("/cache")


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({"tokenizer": "owner/name"}, "hf download owner/name tokenizer.json"),
        ({"tokenizer": "m", "source": {"package": "p", "file": "f"}}, "maxgate models prepare m"),
        ({"tokenizer": "/data/m"}, "set `tokenizer` in the card m to its path"),
    ],
)
def test_tokenizer_command(fields: dict[str, object], command: str) -> None:
    """The way to get a tokenizer follows from the card."""
    card = ModelCard.model_validate(
        {"name": "m", "prompt": "llama3", "context_length": 9, **fields}
    )
    assert suggest_tokenizer_command(card).endswith(command)


def test_prepared_cards(files: ModelFiles) -> None:
    """Without paths, the cards of prepared models follow the bundled ones."""
    bundled = load_cards([])
    files.models_dir.mkdir(parents=True)
    card = "{name: mine, prompt: engine, context_length: 7}"
    (files.models_dir / "mine.yaml").write_text(card)
    assert [one.name for one in load_cards([], files.cache_dir)] == [
        *[one.name for one in bundled],
        "mine",
    ]
