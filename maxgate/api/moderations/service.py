"""Run moderation requests and build OpenAI's responses."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from maxgate import ids
from maxgate.api.model_access import restrict
from maxgate.api.moderations.schemas import (
    ModerationRequestBody,
    ModerationResponse,
    ModerationResult,
)
from maxgate.errors import NotFound
from maxgate.generation.catalog import ModelCatalog, ServedModel
from maxgate.generation.context import RequestContext
from maxgate.generation.errors import ModelNotFound
from maxgate.generation.moderation import HAZARDS, Moderator, Verdict
from maxgate.generation.request import Message

# OpenAI's categories, with the hazards that imply each.
_CATEGORIES: Final[Mapping[str, Sequence[str]]] = {
    "harassment": ("S5",),
    "harassment/threatening": (),
    "hate": ("S10",),
    "hate/threatening": (),
    "illicit": ("S2", "S3", "S14"),
    "illicit/violent": ("S1", "S9"),
    "self-harm": ("S11",),
    "self-harm/intent": (),
    "self-harm/instructions": (),
    "sexual": ("S4", "S12"),
    "sexual/minors": ("S4",),
    "violence": ("S1",),
    "violence/graphic": (),
    **{hazard: (hazard,) for hazard in HAZARDS},
}


class ModerationService:
    """Judges texts; raises what the catalog and the moderator raise."""

    def __init__(self, moderator: Moderator, catalog: ModelCatalog) -> None:
        self._moderator = moderator
        self._catalog = catalog

    async def create(self, body: ModerationRequestBody, context: RequestContext) -> bytes:
        """Return the verdicts as JSON."""
        model = self._find_model(body.model, context)
        context.model = model.name
        texts = _list_texts(body)
        context.fans_out = len(texts) > 1
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._moderator.judge([Message("user", (text,))], model, context)
                    )
                    for text in texts
                ]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        response = ModerationResponse(
            id=ids.moderation_id(),
            model=model.name,
            results=[_convert_verdict(task.result()) for task in tasks],
        )
        return orjson.dumps(response)

    def _find_model(self, name: str | None, context: RequestContext) -> ServedModel:
        catalog = restrict(self._catalog, context.models, context.project_models)
        try:
            return catalog.find(name, "moderation")
        except NotFound:
            if any(model.task == "moderation" for model in catalog.list()):
                raise
            raise NotFound(
                "No model for moderation is served here. The operator can serve one: a model in "
                "the format of Llama Guard, whose card has task: moderation "
                "(docs/guardrails.md).",
                param="model",
                code=ModelNotFound.default_code,
            ) from None


def _list_texts(body: ModerationRequestBody) -> list[str]:
    if isinstance(body.input, str):
        return [body.input]
    texts = [item for item in body.input if isinstance(item, str)]
    # Parts are judged together, as at OpenAI.
    parts = [item.text for item in body.input if not isinstance(item, str)]
    return ["\n".join(parts)] if parts else texts


def _convert_verdict(verdict: Verdict) -> ModerationResult:
    found = set(verdict.hazards)
    categories = {
        category: not found.isdisjoint(hazards) for category, hazards in _CATEGORIES.items()
    }
    return ModerationResult(
        flagged=verdict.is_unsafe,
        categories=categories,
        category_scores={
            category: verdict.probability if is_found else 0.0
            for category, is_found in categories.items()
        },
        category_applied_input_types={category: ["text"] for category in categories},
    )
