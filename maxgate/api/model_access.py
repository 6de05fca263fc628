"""The part of the catalog that a caller may use."""

from collections.abc import Sequence

from typing_extensions import override

from maxgate.errors import NotFound, UpstreamUnavailable
from maxgate.generation.catalog import ModelCatalog, ServedModel
from maxgate.generation.context import ProjectModels
from maxgate.generation.errors import ModelNotFound
from maxgate.model_cards.card import Task


def restrict(
    catalog: ModelCatalog, allowed: frozenset[str] | None, project: ProjectModels | None = None
) -> ModelCatalog:
    """Return the catalog with the models that both the caller and its project may use.

    None allows all. Limits are of models, not of names: an alias is the same as its model's name.
    """
    if project is not None:
        catalog = RestrictedModels(catalog, project.names, is_denied=project.is_denied)
    return catalog if allowed is None else RestrictedModels(catalog, allowed)


class RestrictedModels(ModelCatalog):
    """Hides models as if they did not exist: all but those with these names, or those."""

    def __init__(
        self, catalog: ModelCatalog, names: frozenset[str], *, is_denied: bool = False
    ) -> None:
        self._catalog = catalog
        self._names = names
        self._is_denied = is_denied

    @override
    def find(self, name: str | None, task: Task | None = None) -> ServedModel:
        if name is None:
            name = self._find_default(task)
        # Without a task first: with one, a stopped model would be started.
        elif (self._catalog.find(name).name in self._list_names()) is self._is_denied:
            raise ModelNotFound(name)
        return self._catalog.find(name, task)

    @override
    def list(self) -> Sequence[ServedModel]:
        names = self._list_names()
        return [
            model for model in self._catalog.list() if (model.name in names) is not self._is_denied
        ]

    def _find_default(self, task: Task | None) -> str | None:
        for model in self.list():
            if task in {None, model.task}:
                return model.name
        if not self._is_denied and self._names:
            return min(self._names)
        if not self._is_denied or self._catalog.list():
            raise NotFound(
                "This key may use none of the models that are served.",
                param="model",
                code=ModelNotFound.default_code,
            )
        return None

    def _list_names(self) -> set[str]:
        """Return the names of the models that the names and aliases lead to."""
        names = set[str]()
        for name in self._names:
            try:
                names.add(self._catalog.find(name).name)
            except (ModelNotFound, UpstreamUnavailable):  # not served, or not now
                continue
        return names
