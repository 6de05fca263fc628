"""Spend limits and spend alerts of the organization and of projects, per month."""

from typing import Annotated, Literal

from fastapi import Query
from pydantic import Field

from maxgate.api.organization.bodies import NewSpendAlert, NewSpendLimit
from maxgate.api.organization.dependencies import (
    Admin,
    AdminRequest,
    Cursor,
    PageQuery,
    build_list,
    create_router,
)
from maxgate.api.organization.schemas import (
    AlertChannel,
    Deleted,
    DeletedSpendLimit,
    ObjectList,
    SpendAlert,
    SpendLimit,
)
from maxgate.auth.organization import limits
from maxgate.auth.organization.changes import Change
from maxgate.auth.organization.limits import ORGANIZATION, Holder, NewLimit
from maxgate.errors import NotFound
from maxgate.stores.identity import IdentityTransaction, Page
from maxgate.stores.limits import SpendAlert as StoredAlert
from maxgate.stores.limits import StoredLimit

router = create_router()

_MILLIONTHS_PER_CENT = 10_000


class AlertQuery(PageQuery):
    """A page of spend alerts by their age."""

    before: Cursor = None
    order: Literal["asc", "desc"] = Field(default="asc")


Alerts = Annotated[AlertQuery, Query()]


@router.get("/spend_limit", operation_id="get_spend_limit")
async def get_spend_limit(admin: Admin) -> SpendLimit:
    """Describe the spend limit of the organization."""
    return await _get_limit(admin, None)


@router.post("/spend_limit", operation_id="set_spend_limit")
async def set_spend_limit(body: NewSpendLimit, admin: Admin) -> SpendLimit:
    """Create or replace the spend limit of the organization."""
    return await _set_limit(admin, None, body)


@router.delete("/spend_limit", operation_id="delete_spend_limit")
async def delete_spend_limit(admin: Admin) -> DeletedSpendLimit:
    """Delete the spend limit of the organization."""
    await _delete_limit(admin, None)
    return DeletedSpendLimit(object="organization.spend_limit.deleted")


@router.get("/projects/{project_id}/spend_limit", operation_id="get_project_spend_limit")
async def get_project_spend_limit(project_id: str, admin: Admin) -> SpendLimit:
    """Describe the spend limit of a project."""
    return await _get_limit(admin, project_id)


@router.post("/projects/{project_id}/spend_limit", operation_id="set_project_spend_limit")
async def set_project_spend_limit(project_id: str, body: NewSpendLimit, admin: Admin) -> SpendLimit:
    """Create or replace the spend limit of a project."""
    return await _set_limit(admin, project_id, body)


@router.delete("/projects/{project_id}/spend_limit", operation_id="delete_project_spend_limit")
async def delete_project_spend_limit(project_id: str, admin: Admin) -> DeletedSpendLimit:
    """Delete the spend limit of a project."""
    await _delete_limit(admin, project_id)
    return DeletedSpendLimit(object="project.spend_limit.deleted")


@router.get("/spend_alerts", operation_id="list_spend_alerts")
async def list_spend_alerts(query: Alerts, admin: Admin) -> ObjectList[SpendAlert]:
    """List the spend alerts of the organization."""
    return await _list_alerts(admin, None, query)


@router.post("/spend_alerts", operation_id="create_spend_alert")
async def create_spend_alert(body: NewSpendAlert, admin: Admin) -> SpendAlert:
    """Create a spend alert of the organization."""
    return await _create_alert(admin, None, body)


@router.get("/spend_alerts/{alert_id}", operation_id="get_spend_alert")
async def get_spend_alert(alert_id: str, admin: Admin) -> SpendAlert:
    """Describe a spend alert of the organization."""
    return await _get_alert(admin, None, alert_id)


@router.post("/spend_alerts/{alert_id}", operation_id="update_spend_alert")
async def update_spend_alert(alert_id: str, body: NewSpendAlert, admin: Admin) -> SpendAlert:
    """Replace a spend alert of the organization."""
    return await _update_alert(admin, None, alert_id, body)


@router.delete("/spend_alerts/{alert_id}", operation_id="delete_spend_alert")
async def delete_spend_alert(alert_id: str, admin: Admin) -> Deleted:
    """Delete a spend alert of the organization."""
    await _delete_alert(admin, None, alert_id)
    return Deleted(object="organization.spend_alert.deleted", id=alert_id)


@router.get("/projects/{project_id}/spend_alerts", operation_id="list_project_spend_alerts")
async def list_project_spend_alerts(
    project_id: str, query: Alerts, admin: Admin
) -> ObjectList[SpendAlert]:
    """List the spend alerts of a project."""
    return await _list_alerts(admin, project_id, query)


@router.post("/projects/{project_id}/spend_alerts", operation_id="create_project_spend_alert")
async def create_project_spend_alert(
    project_id: str, body: NewSpendAlert, admin: Admin
) -> SpendAlert:
    """Create a spend alert of a project."""
    return await _create_alert(admin, project_id, body)


@router.get(
    "/projects/{project_id}/spend_alerts/{alert_id}", operation_id="get_project_spend_alert"
)
async def get_project_spend_alert(project_id: str, alert_id: str, admin: Admin) -> SpendAlert:
    """Describe a spend alert of a project."""
    return await _get_alert(admin, project_id, alert_id)


@router.post(
    "/projects/{project_id}/spend_alerts/{alert_id}", operation_id="update_project_spend_alert"
)
async def update_project_spend_alert(
    project_id: str, alert_id: str, body: NewSpendAlert, admin: Admin
) -> SpendAlert:
    """Replace a spend alert of a project."""
    return await _update_alert(admin, project_id, alert_id, body)


@router.delete(
    "/projects/{project_id}/spend_alerts/{alert_id}", operation_id="delete_project_spend_alert"
)
async def delete_project_spend_alert(project_id: str, alert_id: str, admin: Admin) -> Deleted:
    """Delete a spend alert of a project."""
    await _delete_alert(admin, project_id, alert_id)
    return Deleted(object="project.spend_alert.deleted", id=alert_id)


async def _hold(rows: IdentityTransaction, project_id: str | None) -> Holder:
    return ORGANIZATION if project_id is None else await limits.hold_project(rows, project_id)


async def _find_limit(rows: IdentityTransaction, holder: Holder) -> StoredLimit:
    found = await limits.find_limit(rows, holder, "money", "month")
    if found is None or found.amount is None:
        raise NotFound("There is no spend limit.", code="not_found")
    return found


async def _get_limit(admin: AdminRequest, project_id: str | None) -> SpendLimit:
    async with admin.read() as rows:
        found = await _find_limit(rows, await _hold(rows, project_id))
    admin.tag(found.version)
    return describe_limit(found)


async def _set_limit(
    admin: AdminRequest, project_id: str | None, body: NewSpendLimit
) -> SpendLimit:
    amount = body.threshold_amount * _MILLIONTHS_PER_CENT
    async with admin.change() as change:
        holder = await _hold(change.rows, project_id)
        found = await limits.find_limit(change.rows, holder, "money", "month")
        new = NewLimit("money", "month", amount, is_budget=True)
        if found is not None:  # the command line can set more
            new = NewLimit(
                *("money", "month", amount),
                is_budget=True,
                time_zone=found.time_zone,
                alert_percents=found.alert_percents,
                alert_amount=found.alert_amount,
            )
        stored = await limits.set_limit(change, holder, new, version=admin.version)
    admin.tag(stored.version)
    return describe_limit(stored)


async def _delete_limit(admin: AdminRequest, project_id: str | None) -> None:
    async with admin.change() as change:
        holder = await _hold(change.rows, project_id)
        found = await _find_limit(change.rows, holder)
        await limits.remove_limit(change, holder, found, version=admin.version)


async def _list_alerts(
    admin: AdminRequest, project_id: str | None, query: AlertQuery
) -> ObjectList[SpendAlert]:
    page = Page(query.limit, query.after or None, query.before or None, order=query.order)
    async with admin.read() as rows:
        holder = await _hold(rows, project_id)
        found = await rows.spend_alerts.list(page, project_id=holder.project_id)
    return build_list(list(map(describe_alert, found.items)), has_more=found.has_more)


async def _create_alert(
    admin: AdminRequest, project_id: str | None, body: NewSpendAlert
) -> SpendAlert:
    async def create(change: Change) -> SpendAlert:
        return await _save_alert(change, admin, project_id, None, body)

    return await admin.create(SpendAlert, create)


async def _get_alert(admin: AdminRequest, project_id: str | None, alert_id: str) -> SpendAlert:
    async with admin.read() as rows:
        found = await limits.get_spend_alert(rows, await _hold(rows, project_id), alert_id)
    admin.tag(found.version)
    return describe_alert(found)


async def _update_alert(
    admin: AdminRequest, project_id: str | None, alert_id: str, body: NewSpendAlert
) -> SpendAlert:
    async with admin.change() as change:
        return await _save_alert(change, admin, project_id, alert_id, body)


async def _save_alert(
    change: Change,
    admin: AdminRequest,
    project_id: str | None,
    alert_id: str | None,
    body: NewSpendAlert,
) -> SpendAlert:
    channel = body.notification_channel
    stored = await limits.save_spend_alert(
        change,
        await _hold(change.rows, project_id),
        alert_id,
        body.threshold_amount * _MILLIONTHS_PER_CENT,
        channel.recipients,
        channel.subject_prefix,
        version=admin.version,
    )
    admin.tag(stored.version)
    return describe_alert(stored)


async def _delete_alert(admin: AdminRequest, project_id: str | None, alert_id: str) -> None:
    async with admin.change() as change:
        holder = await _hold(change.rows, project_id)
        await limits.delete_spend_alert(change, holder, alert_id, version=admin.version)


def describe_limit(limit: StoredLimit) -> SpendLimit:
    """Return the limit as clients see it; cents are rounded down."""
    is_project = limit.scope == "project"
    return SpendLimit(
        object="project.spend_limit" if is_project else "organization.spend_limit",
        threshold_amount=(limit.amount or 0) // _MILLIONTHS_PER_CENT,
    )


def describe_alert(alert: StoredAlert) -> SpendAlert:
    """Return the alert as clients see it."""
    return SpendAlert(
        id=alert.id,
        object="project.spend_alert" if alert.project_id else "organization.spend_alert",
        threshold_amount=alert.amount // _MILLIONTHS_PER_CENT,
        notification_channel=AlertChannel(
            recipients=list(alert.recipients), subject_prefix=alert.subject_prefix
        ),
    )
