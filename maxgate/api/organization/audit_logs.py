"""/v1/organization/audit_logs: who has changed the organization, when and how."""

from typing import Annotated, TypeAlias

from fastapi import Query
from pydantic import Field

from maxgate.api.organization.dependencies import (
    Admin,
    Cursor,
    PageQuery,
    build_list,
    create_router,
)
from maxgate.api.organization.schemas import (
    AuditActor,
    AuditActorKey,
    AuditActorSession,
    AuditActorUser,
    AuditLog,
    AuditProject,
    ObjectList,
)
from maxgate.api.schemas import Unsupported
from maxgate.auth.organization.changes import COMMAND_LINE
from maxgate.stores.identity import AuditEvent, AuditFilter, Page

router = create_router()

_Time: TypeAlias = Annotated[int | None, Field(ge=0, le=2**53)]
_Values: TypeAlias = Annotated[
    list[Annotated[str, Field(max_length=200)]] | None, Field(max_length=100)
]


class AuditQuery(PageQuery):
    """A page of the events with these types, actors, resources, projects and times.

    Actors are keys, which have no e-mail address, and there are no tenants.
    """

    before: Cursor = None
    event_types: _Values = Field(default=None, alias="event_types[]")
    actor_ids: _Values = Field(default=None, alias="actor_ids[]")
    project_ids: _Values = Field(default=None, alias="project_ids[]")
    resource_ids: _Values = Field(default=None, alias="resource_ids[]")
    actor_emails: Unsupported = Field(default=None, alias="actor_emails[]")
    tenant_only: Unsupported = None
    gt: _Time = Field(default=None, alias="effective_at[gt]")
    gte: _Time = Field(default=None, alias="effective_at[gte]")
    lt: _Time = Field(default=None, alias="effective_at[lt]")
    lte: _Time = Field(default=None, alias="effective_at[lte]")


@router.get("/audit_logs", operation_id="list_audit_logs")
async def list_audit_logs(
    query: Annotated[AuditQuery, Query()], admin: Admin
) -> ObjectList[AuditLog]:
    """List changes, the last one first."""
    page = Page(query.limit, query.after or None, query.before or None, order="desc")
    where = AuditFilter(
        types=query.event_types,
        actor_ids=query.actor_ids,
        project_ids=query.project_ids,
        resource_ids=query.resource_ids,
        gt=query.gt,
        gte=query.gte,
        lt=query.lt,
        lte=query.lte,
    )
    async with admin.read() as rows:
        found = await rows.list_audit_events(page, where)
    return build_list(list(map(describe_event, found.items)), has_more=found.has_more)


def describe_event(event: AuditEvent) -> AuditLog:
    """Return the event as clients see it."""
    address = AuditActorSession(ip_address=event.actor_address)
    if event.actor_id == COMMAND_LINE.id:
        user = AuditActorUser(id=event.actor_id)
        actor = AuditActor(type="session", session=AuditActorSession(user=user))
    else:
        actor = AuditActor(
            type="api_key", api_key=AuditActorKey(id=event.actor_id), session=address
        )
    project = None
    if event.project_id is not None:
        project = AuditProject(id=event.project_id, name=event.project_name)
    return AuditLog(
        id=event.id,
        type=event.type,
        effective_at=event.effective_at,
        actor=actor,
        project=project,
        **{event.type: dict(event.details)},
    )
