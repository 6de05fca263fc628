"""Projects, and the models that they may use."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from maxgate.auth.organization.changes import Change, check_name, check_version, create_id, require
from maxgate.errors import Conflict, InvalidRequest
from maxgate.stores.identity import (
    IdentityTransaction,
    ModelPermissions,
    PermissionMode,
    Project,
)

DEFAULT_PROJECT: Final = "default"
"""Id of the project of keys that name none."""
MAX_MODELS: Final = 1000
"""Models in the permissions of a project."""


async def create_project(change: Change, name: str, project_id: str | None = None) -> Project:
    """Create a project; raises Conflict if one with the id exists."""
    project = Project(project_id or create_id("proj_"), check_name(name), change.now)
    await change.rows.projects.add(project)
    await change.record("project.created", project.id, project, data={"name": project.name})
    return project


async def ensure_default_project(change: Change) -> Project:
    """Return the default project; create it if it does not exist."""
    found = await change.rows.projects.find(DEFAULT_PROJECT)
    return found or await create_project(change, "Default project", DEFAULT_PROJECT)


async def get_project(rows: IdentityTransaction, project_id: str) -> Project:
    """Return a project; raises NotFound."""
    return require(await rows.projects.find(project_id), "project", project_id)


async def get_active_project(rows: IdentityTransaction, project_id: str) -> Project:
    """Return a project that may be changed; raises NotFound, and Conflict if it is archived."""
    project = await get_project(rows, project_id)
    if project.archived_at is not None:
        raise Conflict(f"The project {project.id!r} is archived.", code="project_archived")
    return project


async def rename_project(
    change: Change, project_id: str, name: str | None, *, version: int | None = None
) -> Project:
    """Rename a project; None keeps its name."""
    project = await get_active_project(change.rows, project_id)
    check_version(project.version, version)
    if name is None:
        return project
    project = await change.rows.projects.update(replace(project, name=check_name(name)))
    await change.record("project.updated", project.id, project, changes_requested={"title": name})
    return project


async def archive_project(
    change: Change, project_id: str, *, version: int | None = None
) -> Project:
    """Archive a project: its keys are refused from then on, and there is no way back."""
    project = await get_project(change.rows, project_id)
    check_version(project.version, version)
    if project.archived_at is not None:
        return project
    project = await change.rows.projects.update(replace(project, archived_at=change.now))
    await change.record("project.archived", project.id, project)
    return project


async def get_model_permissions(rows: IdentityTransaction, project_id: str) -> ModelPermissions:
    """Return the permissions of a project; without any, a list that denies nothing."""
    await get_project(rows, project_id)
    found = await rows.model_permissions.find(project_id)
    return found or ModelPermissions(project_id, "deny_list", (), version=0)


async def set_model_permissions(
    change: Change,
    project_id: str,
    mode: PermissionMode,
    model_ids: Sequence[str],
    *,
    version: int | None = None,
) -> ModelPermissions:
    """Set which models a project may use, or may not use."""
    if len(model_ids) > MAX_MODELS:
        raise InvalidRequest(
            f"'model_ids' must have at most {MAX_MODELS} items.", param="model_ids"
        )
    for index, model in enumerate(model_ids):
        check_name(model, f"model_ids[{index}]")
    project = await get_active_project(change.rows, project_id)
    found = await change.rows.model_permissions.find(project_id)
    check_version(found.version if found else 0, version)
    wanted = ModelPermissions(project_id, mode, tuple(dict.fromkeys(model_ids)))
    if found is None:
        await change.rows.model_permissions.add(wanted)
    else:
        wanted = await change.rows.model_permissions.update(replace(wanted, version=found.version))
    requested = {"mode": mode, "model_ids": list(wanted.model_ids)}
    await change.record("project.updated", project.id, project, changes_requested=requested)
    return wanted


async def delete_model_permissions(
    change: Change, project_id: str, *, version: int | None = None
) -> bool:
    """Allow a project all models; returns whether there were permissions."""
    project = await get_active_project(change.rows, project_id)
    check_version((await get_model_permissions(change.rows, project_id)).version, version)
    deleted = await change.rows.model_permissions.delete(project_id)
    if deleted:
        requested = {"model_ids": None}
        await change.record("project.updated", project.id, project, changes_requested=requested)
    return deleted
