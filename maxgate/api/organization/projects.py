"""/v1/organization/projects, and the models that projects may use."""

from typing import Annotated

from fastapi import Query

from maxgate.api.organization.bodies import NewModelPermissions, NewProject, ProjectChange
from maxgate.api.organization.dependencies import Admin, PageQuery, build_list, create_router
from maxgate.api.organization.schemas import (
    DeletedModelPermissions,
    ModelPermissions,
    ObjectList,
    Project,
)
from maxgate.auth.organization import projects
from maxgate.auth.organization.changes import Change
from maxgate.stores import identity

router = create_router()


class ProjectQuery(PageQuery):
    """A page of all projects, or of those that are not archived."""

    include_archived: bool = False


@router.post("/projects", operation_id="create_project")
async def create_project(body: NewProject, admin: Admin) -> Project:
    """Create a project."""

    async def create(change: Change) -> Project:
        project = await projects.create_project(change, body.name)
        admin.tag(project.version)
        return describe_project(project)

    return await admin.create(Project, create)


@router.get("/projects", operation_id="list_projects")
async def list_projects(
    query: Annotated[ProjectQuery, Query()], admin: Admin
) -> ObjectList[Project]:
    """List the projects, the oldest first."""
    async with admin.read() as rows:
        page = query.build_page()
        if query.include_archived:
            found = await rows.projects.list(page)
        else:
            found = await rows.projects.list(page, archived_at=None)
    return build_list(list(map(describe_project, found.items)), has_more=found.has_more)


@router.get("/projects/{project_id}", operation_id="get_project")
async def get_project(project_id: str, admin: Admin) -> Project:
    """Describe one project."""
    async with admin.read() as rows:
        project = await projects.get_project(rows, project_id)
    admin.tag(project.version)
    return describe_project(project)


@router.post("/projects/{project_id}", operation_id="update_project")
async def update_project(project_id: str, body: ProjectChange, admin: Admin) -> Project:
    """Rename a project."""
    async with admin.change() as change:
        project = await projects.rename_project(
            change, project_id, body.name, version=admin.version
        )
    admin.tag(project.version)
    return describe_project(project)


@router.post("/projects/{project_id}/archive", operation_id="archive_project")
async def archive_project(project_id: str, admin: Admin) -> Project:
    """Archive a project; its keys are refused from then on, and there is no way back."""
    async with admin.change() as change:
        project = await projects.archive_project(change, project_id, version=admin.version)
    admin.tag(project.version)
    return describe_project(project)


@router.get("/projects/{project_id}/model_permissions", operation_id="get_model_permissions")
async def get_model_permissions(project_id: str, admin: Admin) -> ModelPermissions:
    """Describe the models that a project may use."""
    async with admin.read() as rows:
        found = await projects.get_model_permissions(rows, project_id)
    admin.tag(found.version)
    return ModelPermissions(mode=found.mode, model_ids=list(found.model_ids))


@router.post("/projects/{project_id}/model_permissions", operation_id="set_model_permissions")
async def set_model_permissions(
    project_id: str, body: NewModelPermissions, admin: Admin
) -> ModelPermissions:
    """Set which models a project may use, or may not use."""
    async with admin.change() as change:
        found = await projects.set_model_permissions(
            change, project_id, body.mode, body.model_ids, version=admin.version
        )
    admin.tag(found.version)
    return ModelPermissions(mode=found.mode, model_ids=list(found.model_ids))


@router.delete("/projects/{project_id}/model_permissions", operation_id="delete_model_permissions")
async def delete_model_permissions(project_id: str, admin: Admin) -> DeletedModelPermissions:
    """Allow a project all models."""
    async with admin.change() as change:
        deleted = await projects.delete_model_permissions(change, project_id, version=admin.version)
    return DeletedModelPermissions(deleted=deleted)


def describe_project(project: identity.Project) -> Project:
    """Return the project as clients see it."""
    return Project(
        id=project.id,
        name=project.name,
        created_at=project.created_at,
        archived_at=project.archived_at,
        status="active" if project.archived_at is None else "archived",
    )
