"""What cards refer to is found as a path, a prepared model or a complete download."""

from pathlib import Path

import pytest

from maxgate.model_cards.loader import ModelFiles

REPOSITORY = "owner/name"


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    return ModelFiles(tmp_path / "data", tmp_path / "hub")


def download(files: ModelFiles, *names: str) -> Path:
    """What huggingface_hub leaves behind."""
    repository = files.hub_cache / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc\n")
    for name in names:
        (snapshot / name).write_text("{}")
    return snapshot


def test_a_prepared_model_is_found_by_its_name(files: ModelFiles) -> None:
    prepared = files.models_dir / "small"
    prepared.mkdir(parents=True)
    assert files.find("small") == prepared


def test_a_downloaded_repository_is_found(files: ModelFiles) -> None:
    snapshot = download(files, "tokenizer.json")
    assert files.find(REPOSITORY) == snapshot
    assert files.find_tokenizer(REPOSITORY) == snapshot / "tokenizer.json"


def test_a_download_without_its_tokenizer_is_not_complete(files: ModelFiles) -> None:
    download(files, "config.json")
    assert files.find_tokenizer(REPOSITORY) is None


def test_what_is_not_here_is_not_found(files: ModelFiles) -> None:
    assert (files.find("small"), files.find_tokenizer(REPOSITORY)) == (None, None)


def test_a_file_is_its_own_tokenizer(files: ModelFiles, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.touch()
    assert files.find_tokenizer(str(file)) == file


def test_the_download_folder_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.delenv("HF_HOME", raising=False)
    assert ModelFiles.of(tmp_path).hub_cache == Path.home() / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", "/hf")
    assert ModelFiles.of(tmp_path).hub_cache == Path("/hf/hub")
    monkeypatch.setenv("HF_HUB_CACHE", "/cache")
    assert ModelFiles.of(tmp_path).hub_cache == Path("/cache")
