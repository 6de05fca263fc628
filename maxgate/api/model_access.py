"""The part of the catalog that a caller may use."""

from collections.abc import Sequence

from typing_extensions import override

from maxgate.errors import UpstreamUnavailable
from maxgate.generation.catalog import ModelCatalog, ServedModel
from maxgate.generation.errors import ModelNotFound
from maxgate.model_cards.card import Task


def restrict(catalog: ModelCatalog, allowed: frozenset[str] | None) -> ModelCatalog:
    """Return the catalog with the allowed models only; None allows all."""
    return catalog if allowed is None else AllowedModels(catalog, allowed)


class AllowedModels(ModelCatalog):
    """Hides models whose names and aliases are not allowed, as if they did not exist."""

    def __init__(self, catalog: ModelCatalog, allowed: frozenset[str]) -> None:
        self._catalog = catalog
        self._allowed = allowed

    @override
    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        if name is None:
            name = self._find_default(task)
        # Without a task first: with one, a stopped model would be started.
        elif self._catalog.find(name).name not in self._list_names():
            raise ModelNotFound(name)
        return self._catalog.find(name, task)

    @override
    def list(self) -> Sequence[ServedModel]:
        names = self._list_names()
        return [model for model in self._catalog.list() if model.name in names]

    def _find_default(self, task: Task | None) -> str:
        for model in self.list():
            if task in {None, model.task}:
                return model.name
        return min(self._allowed)

    def _list_names(self) -> set[str]:
        """Return the names of the models that the allowed names and aliases lead to."""
        names = set[str]()
        for allowed in self._allowed:
            try:
                names.add(self._catalog.find(allowed).name)
            except (ModelNotFound, UpstreamUnavailable):  # not served, or not now
                continue
        return names
