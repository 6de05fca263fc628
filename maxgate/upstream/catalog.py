"""Cards joined with what the engines report."""

from collections.abc import Callable, Sequence

from maxgate.errors import NotFound
from maxgate.generation.catalog import Capabilities, ServedModel
from maxgate.generation.errors import ModelNotFound, WrongModelForTask
from maxgate.model_cards.card import ModelCard, SamplingDefaults, Task
from maxgate.upstream.errors import unavailable
from maxgate.upstream.replica import EngineModel, Replica


class LiveCatalog:
    """The models that engines list, in the order of the cards, then the ones without a card.

    A card's prompt format is used once `has_format` says so; until then, and for models without a
    card, the engine formats the prompt itself.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard],
        replicas: Sequence[Replica],
        has_format: Callable[[ModelCard], bool],
    ) -> None:
        self._cards = cards
        self._endpoints = replicas
        self._has_format = has_format
        self._by_name: dict[str, ServedModel] = {}
        self._models: tuple[ServedModel, ...] = ()

    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        """See ModelCatalog."""
        if name is None:
            return self._default(task)
        model = self._by_name.get(name)
        if model is None:
            if self._may_come(name):
                raise unavailable()
            raise ModelNotFound(name)
        if task not in {None, model.task}:
            raise WrongModelForTask(model.name, task=model.task, requested=str(task))
        return model

    def _default(self, task: Task | None) -> ServedModel:
        for model in self._models:
            if task in {None, model.task}:
                return model
        if self._models and all(replica.state == "healthy" for replica in self._endpoints):
            raise NotFound(
                f"No model for {task} is served here. GET /v1/models lists the models.",
                param="model",
                code=ModelNotFound.default_code,
            )
        raise unavailable()

    def list(self) -> Sequence[ServedModel]:
        """See ModelCatalog."""
        return self._models

    def _may_come(self, name: str) -> bool:
        # An engine that has not been reached may serve a model that only its card names.
        missing = any(replica.state != "healthy" for replica in self._endpoints)
        return missing and any(name in card.names for card in self._cards)

    def refresh(self) -> None:
        """Take in what endpoints and formats have become."""
        reported: dict[str, EngineModel] = {}
        for replica in self._endpoints:
            for name, model in replica.models.items():
                reported.setdefault(name, model)
        by_name: dict[str, ServedModel] = {}
        models = []
        for card in self._cards:
            engine_model = reported.pop(card.served_model_name, None)
            if engine_model is not None:
                served = self._served(card, engine_model)
                models.append(served)
                for name in card.names:
                    by_name.setdefault(name, served)
        for engine_model in reported.values():
            served = self._without_card(engine_model)
            models.append(served)
            by_name.setdefault(served.name, served)
        self._by_name, self._models = by_name, tuple(models)

    def _served(self, card: ModelCard, model: EngineModel) -> ServedModel:
        limit = model.context_length
        return ServedModel(
            name=card.name,
            engine_name=model.name,
            prompt=card.prompt if self._has_format(card) else "engine",
            context_length=min(card.context_length, limit) if limit else card.context_length,
            created=model.created,
            sampling=card.sampling,
            capabilities=self._abilities(model.name),
            structured_output=card.structured_output,
            tool_style=card.tool_style,
            task=card.task,
            dimensions=card.dimensions or 0,
        )

    def _without_card(self, model: EngineModel) -> ServedModel:
        # A limit that the engine does not tell is the engine's to enforce.
        return ServedModel(
            name=model.name,
            engine_name=model.name,
            prompt="engine",
            context_length=model.context_length or 2**31,
            created=model.created,
            sampling=SamplingDefaults(),
            capabilities=self._abilities(model.name),
        )

    def _abilities(self, name: str) -> Capabilities:
        # Any of the engines may get a request, so that all of them have to be able.
        known = [e.capabilities[name] for e in self._endpoints if name in e.capabilities]
        if not known:
            return Capabilities()
        return Capabilities(
            grammar=all(one.grammar for one in known),
            logprobs=all(one.logprobs for one in known),
            penalties=all(one.penalties for one in known),
        )
