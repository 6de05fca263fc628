"""Where a card's files are on this machine."""

import os
from dataclasses import dataclass
from pathlib import Path


def _default_hub_cache() -> Path:
    # The rules of huggingface_hub, which is what MAX downloads with.
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache)
    home = os.environ.get("HF_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "huggingface") / "hub"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Finds what cards refer to.

    `data_dir` is maxgate's own folder; prepared models are in its `models/`. `hub_cache` is the
    folder that `huggingface_hub` downloads to.
    """

    data_dir: Path
    hub_cache: Path

    @classmethod
    def of(cls, data_dir: Path) -> "ModelFiles":
        """With the download folder that the environment names."""
        return cls(data_dir.expanduser(), _default_hub_cache())

    @property
    def models_dir(self) -> Path:
        """Where `maxgate models prepare` writes."""
        return self.data_dir / "models"

    def find(self, reference: str) -> Path | None:
        """A path, a prepared model's name or a downloaded repository; None where it is not here."""
        path = Path(reference).expanduser()
        for candidate in (path, self.models_dir / path):
            if candidate.exists():
                return candidate.absolute()
        return self._downloaded(reference)

    def find_tokenizer(self, reference: str) -> Path | None:
        """A file that a tokenizer can be read from; None where it is not here, or not yet."""
        found = self.find(reference)
        if found is None or found.is_file():
            return found
        file = found / "tokenizer.json"
        # Downloads appear under their name when they are complete.
        return file if file.exists() else None

    def _downloaded(self, reference: str) -> Path | None:
        repository = self.hub_cache / ("models--" + reference.replace("/", "--"))
        try:
            revision = (repository / "refs" / "main").read_text().strip()
        except OSError:
            return None
        snapshot = repository / "snapshots" / revision
        return snapshot if snapshot.is_dir() else None
