"""The tokenizers of the models for embeddings, loaded as they appear."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog
from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError, UpstreamUnavailable
from maxgate.generation.catalog import ServedModel
from maxgate.generation.model_card import ModelCard
from maxgate.prompts.embedding_format import EmbeddingFormat
from maxgate.prompts.formats import FindsTokenizers

_log = structlog.get_logger()


class EmbeddingFormats:
    """One format per card whose task is embeddings.

    There is no way around them, as there is for prompts: MAX counts no tokens and does not survive
    ids that it does not know.
    """

    def __init__(self, cards: Sequence[ModelCard], files: FindsTokenizers) -> None:
        self._cards = {c.served_model_name: c for c in cards if c.task == "embeddings"}
        self._files = files
        self._formats: dict[str, EmbeddingFormat] = {}
        self._problems: dict[str, str] = {}
        self._loading = asyncio.Lock()

    def of(self, model: ServedModel) -> EmbeddingFormat:
        """The format for a model's inputs.

        Raises UpstreamUnavailable where its tokenizer is not here yet.
        """
        found = self._formats.get(model.engine_name)
        if found is None:
            raise UpstreamUnavailable(
                f"The tokenizer of {model.name} is not on the gateway's machine.", retry_after=30
            )
        return found

    def others(self, names: Collection[str]) -> list[str]:
        """Those of the names that are not models for embeddings."""
        return [name for name in names if name not in self._cards]

    async def prepare(self, names: Collection[str]) -> None:
        """Load what these models need and is there; say once what is not.

        `names` are what engines call them; those of other models are passed over.
        """
        async with self._loading:
            for name in names:
                if name in self._cards and name not in self._formats:
                    await self._prepare(self._cards[name])

    async def _prepare(self, card: ModelCard) -> None:
        file = self._files.find_tokenizer(card.tokenizer)
        if file is None:
            problem = f"its tokenizer {card.tokenizer} is not here yet"
        else:
            try:
                loaded = await asyncio.to_thread(_load, file, card.context_length)
            except ConfigurationError as error:
                problem = str(error)
            else:
                self._formats[card.served_model_name] = loaded
                return
        if self._problems.get(card.name) != problem:
            self._problems[card.name] = problem
            _log.warning("embeddings cannot be served", model=card.name, reason=problem)


def _load(file: Path, limit: int) -> EmbeddingFormat:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigurationError(f"{file} cannot be read as a tokenizer: {error}") from error
    return EmbeddingFormat(tokenizer, limit=limit)
