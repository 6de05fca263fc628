"""The chat and embedding formats of the models served, loaded when their tokenizers appear."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import structlog
from tokenizers import Tokenizer

from maxgate.errors import ConfigurationError, UpstreamUnavailable
from maxgate.generation.catalog import ServedModel
from maxgate.gguf.errors import ModelFileError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import suggest_tokenizer_command
from maxgate.prompts.chat_format import ChatFormat
from maxgate.prompts.chatml import ChatMLFormat
from maxgate.prompts.embeddings import EmbeddingFormat
from maxgate.prompts.llama3 import Llama3Format
from maxgate.prompts.tokenizer import load_tokenizer

_log = structlog.get_logger("prompts")

UNPROTECTED: Final = (
    "text of users, tools and documents can become special tokens and forge turns of other roles"
)
"""The effect of leaving prompts to the engine."""


class TokenizerFinder(Protocol):
    """Finds tokenizer files on this machine."""

    def find_tokenizer(self, reference: str) -> Path | None:
        """Return the file that a card's `tokenizer` refers to; None if it is not there yet."""
        ...


class PromptProblem(NamedTuple):
    """Why the gateway cannot format a model's prompts, and the way out."""

    reason: str
    fix: str


class PromptFormats:
    """The chat formats of the models that have a card.

    `by_engine_name` maps the engine's names of models to formats, and grows as formats are loaded.
    With `require_tokenizer`, models without a format are not served, whatever their cards say.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard],
        files: TokenizerFinder,
        *,
        require_tokenizer: bool = False,
    ) -> None:
        self._cards = {card.served_model_name: card for card in cards}
        self._files = files
        self._require_tokenizer = require_tokenizer
        self._formats: dict[str, ChatFormat] = {}
        self.by_engine_name: Mapping[str, ChatFormat] = self._formats
        self._logged: dict[str, PromptProblem] = {}
        self._loading = asyncio.Lock()

    def has(self, card: ModelCard) -> bool:
        """Whether the card's format is loaded."""
        return card.served_model_name in self._formats

    async def prepare(self, names: Collection[str]) -> None:
        """Load the formats of models, by the engine's names, and log each problem once."""
        for name in names:
            is_new = name not in self._formats
            problem = await self.find_problem(name)
            if problem is not None:
                self._log_once(name, problem)
            elif is_new:
                card = self._cards[name]
                _log.info("chat template loaded", model=card.name, prompt=card.prompt)

    async def find_problem(self, name: str) -> PromptProblem | None:
        """Load the format of a model, by the engine's name; return what prevents it."""
        async with self._loading:
            if name in self._formats:
                return None
            card = self._cards.get(name)
            if card is None:
                return PromptProblem("it has no model card", "write one: docs/model-cards.md")
            if card.prompt == "engine":
                return PromptProblem(
                    "its card says 'prompt: engine'",
                    "set `prompt` and `tokenizer` in the card if the model's format is known",
                )
            file = self._files.find_tokenizer(card.tokenizer)
            if file is None:
                return PromptProblem(
                    f"its tokenizer {card.tokenizer} is not here yet",
                    suggest_tokenizer_command(card),
                )
            try:
                self._formats[name] = await asyncio.to_thread(_load_chat_format, card, file)
            except (ConfigurationError, ModelFileError) as error:
                return PromptProblem(str(error), "correct `prompt` or `tokenizer` in the card")
            return None

    def _log_once(self, name: str, problem: PromptProblem) -> None:
        if self._logged.get(name) == problem:
            return
        self._logged[name] = problem
        card = self._cards.get(name)
        if self._require_tokenizer or (card is not None and card.require_tokenizer):
            event, effect = "model is not served", "requests get 503 until this is fixed"
        else:
            event, effect = "prompts are formatted by the engine", UNPROTECTED
        _log.warning(event, model=name, reason=problem.reason, effect=effect, fix=problem.fix)


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

    def has(self, card: ModelCard) -> bool:
        """Whether the card's format is loaded."""
        return card.served_model_name in self._formats

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
            problem = (
                f"its tokenizer {card.tokenizer} is not here yet; {suggest_tokenizer_command(card)}"
            )
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
