"""The chat and embedding formats of the models served, loaded when their tokenizers appear."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
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


class TokenizerFinder(Protocol):
    """Finds tokenizer files on this machine."""

    def find_tokenizer(self, reference: str) -> Path | None:
        """Return the file that a card's `tokenizer` refers to; None if it is not there yet."""
        ...


class PromptFormats:
    """The chat formats of the models that have a card.

    `by_engine_name` maps the engine's names of models to formats, and grows as formats are loaded.
    """

    def __init__(self, cards: Sequence[ModelCard], files: TokenizerFinder) -> None:
        self._cards = {card.served_model_name: card for card in cards}
        self._files = files
        self._formats: dict[str, ChatFormat] = {}
        self.by_engine_name: Mapping[str, ChatFormat] = self._formats
        self._logged: set[str] = set()
        self._loading = asyncio.Lock()

    def has(self, card: ModelCard) -> bool:
        """Whether the card's format is loaded."""
        return card.served_model_name in self._formats

    async def prepare(self, names: Collection[str]) -> None:
        """Load the formats of models, by the engine's names, and log once what is missing."""
        async with self._loading:
            for name in names:
                if name not in self._formats:
                    await self._prepare(name)

    async def _prepare(self, name: str) -> None:
        card = self._cards.get(name)
        if card is None:
            self._log_once(name, "it has no model card")
        elif card.prompt == "engine":
            self._log_once(name, "its card says 'prompt: engine'")
        elif (file := self._files.find_tokenizer(card.tokenizer)) is None:
            self._log_once(name, f"its tokenizer {card.tokenizer} is not here yet")
        else:
            try:
                self._formats[name] = await asyncio.to_thread(_load_chat_format, card, file)
            except (ConfigurationError, ModelFileError) as error:
                self._log_once(name, str(error))
            else:
                _log.info("chat template loaded", model=card.name, prompt=card.prompt)

    def _log_once(self, name: str, reason: str) -> None:
        if name not in self._logged:
            self._logged.add(name)
            _log.warning("prompts are formatted by the engine", model=name, reason=reason)


def _load_chat_format(card: ModelCard, file: Path) -> ChatFormat:
    tokenizer = load_tokenizer(file)
    if card.prompt == "llama3":
        return Llama3Format(tokenizer)
    return ChatMLFormat(tokenizer, card.default_system_prompt)


class EmbeddingFormats:
    """The formats of the embedding models that have a card.

    Embedding models are not served without one: MAX counts no tokens for them and crashes on token
    ids outside the vocabulary.
    """

    def __init__(self, cards: Sequence[ModelCard], files: TokenizerFinder) -> None:
        self._cards = {c.served_model_name: c for c in cards if c.task == "embeddings"}
        self._files = files
        self._formats: dict[str, EmbeddingFormat] = {}
        self._problems: dict[str, str] = {}
        self._loading = asyncio.Lock()

    def find(self, model: ServedModel) -> EmbeddingFormat:
        """Return the format of the model; raise UpstreamUnavailable if it is not loaded yet."""
        found = self._formats.get(model.engine_name)
        if found is None:
            raise UpstreamUnavailable(
                f"The tokenizer of {model.name} is not on the gateway's machine.", retry_after=30
            )
        return found

    def others(self, names: Collection[str]) -> list[str]:
        """Return the names that are not those of embedding models."""
        return [name for name in names if name not in self._cards]

    async def prepare(self, names: Collection[str]) -> None:
        """Load the formats of embedding models, by the engine's names, and log what is missing.

        Names of other models are ignored.
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


def _load_embedding_format(file: Path, max_tokens: int) -> EmbeddingFormat:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise ConfigurationError(f"{file} cannot be read as a tokenizer: {error}") from error
    return EmbeddingFormat(tokenizer, max_tokens=max_tokens)
