"""The model catalog: model cards joined with the models that engines list."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

from maxgate.errors import NotFound
from maxgate.generation.catalog import (
    UNKNOWN_CONTEXT,
    Capabilities,
    PromptSource,
    ServedModel,
)
from maxgate.generation.errors import ModelNotFound, ModelNotRunning, WrongModelForTask
from maxgate.model_cards.card import ModelCard, SamplingDefaults, Task
from maxgate.upstream.errors import no_engine_ready, tokenizer_missing
from maxgate.upstream.replica import EngineModel, Replica


class LiveCatalog:
    """The models that engines list: those with a card in card order, then the others.

    Models that the gateway starts and that are not ready are listed after them.

    A card's prompt format is used once `has_format` returns True. Until then, for models without a
    card, and for engines other than MAX, the engine formats the prompt. If the card or
    `require_tokenizer` forbids that, the model is listed but not served.

    With `waits_for_engines`, something else starts engines when requests wait for them: models with
    a card are known before an engine lists them, and requests wait while no engine serves them.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard],
        replicas: Sequence[Replica],
        has_format: Callable[[ModelCard], bool],
        *,
        require_tokenizer: bool = False,
        waits_for_engines: bool = False,
    ) -> None:
        self._cards = cards
        self._replicas = replicas
        self._has_format = has_format
        self._require_tokenizer = require_tokenizer
        self._waits_for_engines = waits_for_engines
        self._by_name: dict[str, ServedModel] = {}
        self._models: tuple[ServedModel, ...] = ()
        self._waiting: dict[str, ServedModel] = {}
        self._managed: Mapping[str, bool] = {}
        self._replaced: Mapping[str, str] = {}
        self._created = int(time.time())
        self.on_refresh: Callable[[], None] | None = None

    def manage(self, is_open: Mapping[str, bool], replaced: Mapping[str, str]) -> None:
        """Take the models that the gateway starts and stops, by name, and whether each is open.

        Requests for a closed one wait. The names of a model that was `replaced` lead to another
        one.
        """
        self._managed, self._replaced = is_open, replaced
        self.refresh()

    def is_ready(self, name: str) -> bool:
        """Whether requests for the model need not wait."""
        model = self._by_name.get(name)
        return model is not None and (not self._waits_for_engines or self._is_served(model))

    def _is_served(self, model: ServedModel) -> bool:
        return any(model.engine_name in replica.serving for replica in self._replicas)

    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        """Return the model with this name or alias, or the first for the task; see ModelCatalog."""
        if name is None:
            return self._default(task)
        model = self._by_name.get(name)
        if model is None:
            if (waiting := self._waiting.get(name)) is not None:
                return _require_start(waiting, task)
            if self._may_appear(name):
                raise no_engine_ready()
            raise ModelNotFound(name)
        if task not in {None, model.task}:
            raise WrongModelForTask(model.name, task=model.task, requested=str(task))
        if self._waits_for_engines and not self._is_served(model):
            return _require_start(model, task)
        return model if task is None else _check_tokenizer(model)

    def _default(self, task: Task | None) -> ServedModel:
        for model in self._models:
            if task in {None, model.task}:
                if not self.is_ready(model.name):
                    return _require_start(model, task)
                return model if task is None else _check_tokenizer(model)
        if self._models and all(replica.state == "healthy" for replica in self._replicas):
            raise NotFound(
                f"No model for {task} is served here. GET /v1/models lists the models.",
                param="model",
                code=ModelNotFound.default_code,
            )
        raise no_engine_ready()

    def list(self) -> Sequence[ServedModel]:
        """Return all models; see ModelCatalog."""
        return self._models

    def _may_appear(self, name: str) -> bool:
        # An engine that is not healthy may serve a model that only a card names so far, and so may
        # one whose name has no address yet.
        incomplete = not self._replicas or any(r.state != "healthy" for r in self._replicas)
        return incomplete and any(name in card.names for card in self._cards)

    def refresh(self) -> None:
        """Rebuild the catalog from the replicas and the available prompt formats."""
        reported = self._merge_lists()
        by_name: dict[str, ServedModel] = {}
        waiting: dict[str, ServedModel] = {}
        models, stopped = list[ServedModel](), list[ServedModel]()
        for card in self._cards:
            engine_model = reported.pop(card.served_model_name, None)
            is_open = self._managed.get(card.name)
            is_known = is_open is not None or self._waits_for_engines
            if card.name in self._replaced or not (engine_model or is_known):
                continue
            model = engine_model or EngineModel(card.served_model_name, self._created, None)
            served = self._build_model(card, model)
            is_ready = engine_model is not None and is_open is not False
            (models if is_ready else stopped).append(served)
            for name in card.names:
                (by_name if is_ready else waiting).setdefault(name, served)
        for engine_model in reported.values():
            served = self._build_uncarded_model(engine_model)
            models.append(served)
            by_name.setdefault(served.name, served)
        for names in (by_name, waiting):
            self._link_replaced(names)
        self._by_name, self._models, self._waiting = by_name, (*models, *stopped), waiting
        if self.on_refresh is not None:
            self.on_refresh()

    def _merge_lists(self) -> dict[str, EngineModel]:
        """Return the models that engines list; of several, the one with the longest context."""
        reported: dict[str, EngineModel] = {}
        for replica in self._replicas:
            for name, model in replica.models.items():
                known = reported.setdefault(name, model)
                # Requests go to a replica whose context has room for them.
                if (model.context_length or math.inf) > (known.context_length or math.inf):
                    reported[name] = model
        return reported

    def _link_replaced(self, names: dict[str, ServedModel]) -> None:
        """Let the names of models that were swapped lead to those in their place."""
        for card in self._cards:
            found = names.get(self._replaced.get(card.name, ""))
            if found is not None:
                names.update(dict.fromkeys(card.names, found))

    def _build_model(self, card: ModelCard, model: EngineModel) -> ServedModel:
        limit = model.context_length
        # Other engines have no route that takes token ids with a grammar or logprobs.
        has_format = self._has_format(card) and (
            model.software == "MAX" or card.task == "embeddings"
        )
        return ServedModel(
            name=card.name,
            engine_name=model.name,
            prompt=card.prompt if has_format else "engine",
            context_length=min(card.context_length, limit) if limit else card.context_length,
            created=model.created,
            sampling=card.sampling,
            capabilities=self._merge_capabilities(model.name),
            structured_output=card.structured_output,
            tool_style=card.tool_style,
            task=card.task,
            dimensions=card.dimensions or 0,
            prompts="gateway" if has_format else self._choose_fallback(card),
            parse_special=card.parse_special,
            prompt_logprobs=card.prompt_logprobs,
        )

    def _build_uncarded_model(self, model: EngineModel) -> ServedModel:
        return ServedModel(
            name=model.name,
            engine_name=model.name,
            prompt="engine",
            context_length=model.context_length or UNKNOWN_CONTEXT,
            created=model.created,
            sampling=SamplingDefaults(),
            capabilities=self._merge_capabilities(model.name),
            prompts="unavailable" if self._require_tokenizer else "engine",
        )

    def _choose_fallback(self, card: ModelCard) -> PromptSource:
        required = self._require_tokenizer or card.require_tokenizer
        # MAX counts no tokens of embedding inputs, so only the gateway can encode them.
        return "unavailable" if required or card.task == "embeddings" else "engine"

    def _merge_capabilities(self, name: str) -> Capabilities:
        # Any replica may get a request, so all of them must have a capability.
        known = [r.capabilities[name] for r in self._replicas if name in r.capabilities]
        if not known:
            return Capabilities()
        return Capabilities(
            grammar=all(c.grammar for c in known),
            logprobs=all(c.logprobs for c in known),
            penalties=all(c.penalties for c in known),
            min_tokens=all(c.min_tokens for c in known),
        )


def _require_start(model: ServedModel, task: Task | None) -> ServedModel:
    """Return a model that is not ready, for a description of it; see ModelCatalog for errors."""
    if task is None:
        return model
    if task != model.task:
        raise WrongModelForTask(model.name, task=model.task, requested=task)
    raise ModelNotRunning(model.name)


def _check_tokenizer(model: ServedModel) -> ServedModel:
    if model.prompts == "unavailable":
        raise tokenizer_missing(model.name)
    return model
