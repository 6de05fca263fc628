"""/v1/organization/projects/{project_id}/rate_limits: requests and tokens per model."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Final, NamedTuple, TypeAlias

from fastapi import Depends, Query, Request
from pydantic import Field

from maxgate.api.organization.bodies import RateLimitChange
from maxgate.api.organization.dependencies import (
    Admin,
    Cursor,
    PageQuery,
    build_list,
    create_router,
)
from maxgate.api.organization.schemas import Deleted, ObjectList, RateLimit
from maxgate.auth.organization import limits
from maxgate.auth.organization.changes import check_version, require
from maxgate.auth.organization.limits import Holder, NewLimit
from maxgate.errors import InvalidRequest
from maxgate.generation.catalog import ModelCatalog
from maxgate.limits.limit import UNLIMITED
from maxgate.stores.identity import IdentityTransaction
from maxgate.stores.limits import MAX_AMOUNT, StoredLimit, Unit, Window

router = create_router()

_FIELDS: Final[Mapping[str, tuple[Unit, Window]]] = {
    "max_requests_per_1_minute": ("requests", "minute"),
    "max_tokens_per_1_minute": ("tokens", "minute"),
    "max_requests_per_1_day": ("requests", "day"),
}
_ALL_MODELS: Final = "all-models"
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9_.@-]")
_MAX_ID_LENGTH: Final = 80

_Rows: TypeAlias = Sequence[StoredLimit]


class RateLimitQuery(PageQuery):
    """A page of the limits of all models."""

    limit: int = Field(default=100, ge=1, le=100)
    before: Cursor = None


class _ModelLimits(NamedTuple):
    """The limits of one model; its name is empty for those of all models."""

    model: str
    rows: _Rows

    @property
    def id(self) -> str:
        return build_id(self.model)

    @property
    def version(self) -> int:
        """A number that changes with each change of any of the limits."""
        if not self.rows:
            return 0
        state = repr(sorted((row.id, row.version) for row in self.rows))
        return int.from_bytes(sha256(state.encode()).digest()[:7]) + 1


def get_catalog(request: Request) -> ModelCatalog:
    """Return the catalog of all models, which admins may limit without using them."""
    catalog: ModelCatalog = request.app.state.catalog
    return catalog


Catalog = Annotated[ModelCatalog, Depends(get_catalog)]


@router.get("/projects/{project_id}/rate_limits", operation_id="list_rate_limits")
async def list_rate_limits(
    project_id: str, query: Annotated[RateLimitQuery, Query()], admin: Admin, catalog: Catalog
) -> ObjectList[RateLimit]:
    """List the limits for all models together, and for each model that is served or limited."""
    async with admin.read() as rows:
        holder = await limits.hold_project(rows, project_id)
        found = list(map(describe, await _read(rows, holder, catalog)))
    ids = [limit.id for limit in found]
    for cursor in (query.after, query.before):
        if cursor and cursor not in ids:
            raise InvalidRequest(
                "'after' and 'before' must be ids of objects in the list.", param="after"
            )
    start = ids.index(query.after) + 1 if query.after else 0
    end = ids.index(query.before) if query.before else len(found)
    if query.before and not query.after:
        start = max(0, end - query.limit)
        return build_list(found[start:end], has_more=start > 0)
    page = found[start:end][: query.limit]
    return build_list(page, has_more=start + len(page) < end)


@router.get("/projects/{project_id}/rate_limits/{rate_limit_id}", operation_id="get_rate_limit")
async def get_rate_limit(
    project_id: str, rate_limit_id: str, admin: Admin, catalog: Catalog
) -> RateLimit:
    """Describe the limits for one model."""
    async with admin.read() as rows:
        holder = await limits.hold_project(rows, project_id)
        found = await _find(rows, holder, catalog, rate_limit_id)
    admin.tag(found.version)
    return describe(found)


@router.post("/projects/{project_id}/rate_limits/{rate_limit_id}", operation_id="update_rate_limit")
async def update_rate_limit(
    project_id: str, rate_limit_id: str, body: RateLimitChange, admin: Admin, catalog: Catalog
) -> RateLimit:
    """Change the limits for one model."""
    async with admin.change() as change:
        holder = await limits.hold_project(change.rows, project_id)
        found = await _find(change.rows, holder, catalog, rate_limit_id)
        check_version(found.version, admin.version)
        by_kind = {(row.unit, row.window): row for row in found.rows}
        for name, (unit, window) in _FIELDS.items():
            amount, row = getattr(body, name), by_kind.get((unit, window))
            if amount is None or (row is not None and amount == row.amount):
                continue
            if amount <= MAX_AMOUNT:
                new = NewLimit(unit, window, amount, found.model)
                await limits.set_limit(change, holder, new)
            elif row is not None:
                await limits.remove_limit(change, holder, row)
        found = await _find(change.rows, holder, catalog, rate_limit_id, found.model)
    admin.tag(found.version)
    return describe(found)


@router.delete(
    "/projects/{project_id}/rate_limits/{rate_limit_id}", operation_id="delete_rate_limit"
)
async def delete_rate_limit(
    project_id: str, rate_limit_id: str, admin: Admin, catalog: Catalog
) -> Deleted:
    """Remove the limits for one model."""
    async with admin.change() as change:
        holder = await limits.hold_project(change.rows, project_id)
        found = await _find(change.rows, holder, catalog, rate_limit_id)
        check_version(found.version, admin.version)
        for row in found.rows:
            await limits.remove_limit(change, holder, row)
    return Deleted(object="project.rate_limit.deleted", id=rate_limit_id)


def build_id(model: str) -> str:
    """Return the id of the limits of a model, which has no characters that a path cannot have."""
    if not model:
        return f"rl-{_ALL_MODELS}"
    plain = _NOT_IN_IDS.sub("-", model)[:_MAX_ID_LENGTH]
    if plain == model and model != _ALL_MODELS:
        return f"rl-{model}"
    return f"rl-{plain}-{sha256(model.encode()).hexdigest()[:8]}"


def describe(found: _ModelLimits) -> RateLimit:
    """Return the limits of a model as clients see them."""
    amounts = {(row.unit, row.window): row.amount for row in found.rows}

    def find(name: str) -> int:
        amount = amounts.get(_FIELDS[name])
        return UNLIMITED if amount is None else amount

    per_day = find("max_requests_per_1_day")
    return RateLimit(
        id=found.id,
        model=found.model or "*",
        max_requests_per_1_minute=find("max_requests_per_1_minute"),
        max_tokens_per_1_minute=find("max_tokens_per_1_minute"),
        max_requests_per_1_day=None if per_day == UNLIMITED else per_day,
    )


async def _read(
    rows: IdentityTransaction, holder: Holder, catalog: ModelCatalog, *more: str
) -> list[_ModelLimits]:
    """Return the limits of all models, of those in the catalog and of those that have any."""
    by_model: dict[str, list[StoredLimit]] = {"": []}
    by_model |= {model.name: [] for model in catalog.list()}
    by_model |= {model: [] for model in more}
    for row in await limits.list_limits(rows, holder):
        if (row.unit, row.window) in _FIELDS.values() and not row.is_budget:
            by_model.setdefault(row.model, []).append(row)
    return [_ModelLimits(model, found) for model, found in by_model.items()]


async def _find(
    rows: IdentityTransaction, holder: Holder, catalog: ModelCatalog, limit_id: str, *more: str
) -> _ModelLimits:
    """Return the limits with this id; raises NotFound."""
    for found in await _read(rows, holder, catalog, *more):
        if found.id == limit_id:
            return found
    return require(None, "rate limit", limit_id)
