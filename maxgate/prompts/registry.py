"""The prompt formats of the models that are served, loaded as their tokenizers appear."""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError, UpstreamUnavailable
from maxgate.generation.catalog import ServedModel
from maxgate.gguf.errors import ModelFileError
from maxgate.model_cards.card import ModelCard
from maxgate.prompts.chat_format import ChatFormat
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.embeddings import EmbeddingFormat
from maxgate.prompts.llama3 import Llama3Format
from maxgate.prompts.tokenizer import load_tokenizer

_log = structlog.get_logger()


class FindsTokenizers(Protocol):
    """Where tokenizers are on this machine."""

    def find_tokenizer(self, reference: str) -> Path | None:
        """The file for a card's `tokenizer`, or None where it is not here yet."""
        ...


class PromptFormats:
    """One format per card that names one."""

    def __init__(self, cards: Sequence[ModelCard], files: FindsTokenizers) -> None:
        self._cards = {card.served_model_name: card for card in cards}
        self._files = files
        self._formats: dict[str, ChatFormat] = {}
        self._announced: set[str] = set()
        self._loading = asyncio.Lock()

    def has(self, card: ModelCard) -> bool:
        """Whether the card's format is ready."""
        return card.served_model_name in self._formats

    def of(self, model: ServedModel) -> ChatFormat | None:
        """The format for a model's prompts, or None where the engine is to format them."""
        return None if model.prompt == "engine" else self._formats.get(model.engine_name)

    async def prepare(self, names: Collection[str]) -> None:
        """Load what these models need and is there; say once what is not.

        `names` are what engines call them.
        """
        async with self._loading:
            for name in names:
                if name not in self._formats:
                    await self._prepare(name)

    async def _prepare(self, name: str) -> None:
        card = self._cards.get(name)
        if card is None:
            self._announce(name, "no model card names it")
        elif card.prompt == "engine":
            self._announce(name, "its card says so")
        elif (file := self._files.find_tokenizer(card.tokenizer)) is None:
            self._announce(name, f"its tokenizer {card.tokenizer} is not here yet")
        else:
            try:
                self._formats[name] = await asyncio.to_thread(_load, card, file)
            except (ConfigurationError, ModelFileError) as error:
                self._announce(name, str(error))
            else:
                _log.info("prompts are formatted here", model=card.name, prompt=card.prompt)

    def _announce(self, name: str, reason: str) -> None:
        if name not in self._announced:
            self._announced.add(name)
            _log.warning("prompts are formatted by the engine", model=name, reason=reason)


def _load(card: ModelCard, file: Path) -> ChatFormat:
    tokenizer = load_tokenizer(file)
    if card.prompt == "llama3":
        return Llama3Format(tokenizer)
    return ChatMLFormat(tokenizer, card.default_system_prompt)


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
                loaded = await asyncio.to_thread(_load_embedding_format, file, card.context_length)
            except ConfigurationError as error:
                problem = str(error)
            else:
                self._formats[card.served_model_name] = loaded
                return
        if self._problems.get(card.name) != problem:
            self._problems[card.name] = problem
            _log.warning("embeddings cannot be served", model=card.name, reason=problem)


def _load_embedding_format(file: Path, limit: int) -> EmbeddingFormat:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigurationError(f"{file} cannot be read as a tokenizer: {error}") from error
    return EmbeddingFormat(tokenizer, limit=limit)
