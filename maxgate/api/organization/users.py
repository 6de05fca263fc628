"""/v1/organization/users, and the users of projects."""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from maxgate.api.organization.bodies import NewProjectUser, ProjectUserChange, UserChange
from maxgate.api.organization.dependencies import (
    Admin,
    PageQuery,
    Paging,
    build_list,
    create_router,
)
from maxgate.api.organization.schemas import Deleted, ObjectList, ProjectUser, User
from maxgate.auth.organization import people
from maxgate.auth.organization.changes import Change, check_version
from maxgate.auth.organization.projects import get_project
from maxgate.stores import identity

router = create_router()


class UserQuery(PageQuery):
    """A page of all users, or of those with these e-mail addresses."""

    emails: list[Annotated[str, Field(max_length=250)]] | None = Field(
        default=None, alias="emails[]", max_length=100
    )


@router.get("/users", operation_id="list_users")
async def list_users(query: Annotated[UserQuery, Query()], admin: Admin) -> ObjectList[User]:
    """List the users of the organization, the oldest first."""
    async with admin.read() as rows:
        if query.emails is None:
            found = await rows.users.list(query.build_page())
        else:
            found = await rows.users.list(query.build_page(), email=query.emails)
    return build_list(list(map(describe_user, found.items)), has_more=found.has_more)


@router.get("/users/{user_id}", operation_id="get_user")
async def get_user(user_id: str, admin: Admin) -> User:
    """Describe one user."""
    async with admin.read() as rows:
        user = await people.get_user(rows, user_id)
    admin.tag(user.version)
    return describe_user(user)


@router.post("/users/{user_id}", operation_id="update_user")
async def update_user(user_id: str, body: UserChange, admin: Admin) -> User:
    """Change the role of a user in the organization."""
    async with admin.change() as change:
        if body.role is None:
            user = await people.get_user(change.rows, user_id)
            check_version(user.version, admin.version)
        else:
            user = await people.set_user_role(change, user_id, body.role, version=admin.version)
    admin.tag(user.version)
    return describe_user(user)


@router.delete("/users/{user_id}", operation_id="delete_user")
async def delete_user(user_id: str, admin: Admin) -> Deleted:
    """Delete a user; its keys are refused from then on."""
    async with admin.change() as change:
        await people.delete_user(change, user_id, version=admin.version)
    return Deleted(object="organization.user.deleted", id=user_id)


@router.post("/projects/{project_id}/users", operation_id="add_project_user")
async def add_project_user(project_id: str, body: NewProjectUser, admin: Admin) -> ProjectUser:
    """Add a user to a project; an unknown e-mail address is a new user."""

    async def create(change: Change) -> ProjectUser:
        member, user = await people.add_project_user(
            change, project_id, body.role, user_id=body.user_id, email=body.email
        )
        admin.tag(member.version)
        return describe_member(member, user)

    return await admin.create(ProjectUser, create)


@router.get("/projects/{project_id}/users", operation_id="list_project_users")
async def list_project_users(
    project_id: str, query: Paging, admin: Admin
) -> ObjectList[ProjectUser]:
    """List the users of a project, the first member first."""
    async with admin.read() as rows:
        await get_project(rows, project_id)
        found = await rows.project_users.list(query.build_page(), project_id=project_id)
        ids = [member.user_id for member in found.items]
        users = await rows.users.list(identity.Page(limit=query.limit), id=ids)
    by_id = {user.id: user for user in users.items}
    members = [describe_member(member, by_id[member.user_id]) for member in found.items]
    return build_list(members, has_more=found.has_more)


@router.get("/projects/{project_id}/users/{user_id}", operation_id="get_project_user")
async def get_project_user(project_id: str, user_id: str, admin: Admin) -> ProjectUser:
    """Describe one user of a project."""
    async with admin.read() as rows:
        member, user = await people.get_project_user(rows, project_id, user_id)
    admin.tag(member.version)
    return describe_member(member, user)


@router.post("/projects/{project_id}/users/{user_id}", operation_id="update_project_user")
async def update_project_user(
    project_id: str, user_id: str, body: ProjectUserChange, admin: Admin
) -> ProjectUser:
    """Change the role of a user in a project."""
    async with admin.change() as change:
        if body.role is None:
            member, user = await people.get_project_user(change.rows, project_id, user_id)
            check_version(member.version, admin.version)
        else:
            member, user = await people.set_project_role(
                change, project_id, user_id, body.role, version=admin.version
            )
    admin.tag(member.version)
    return describe_member(member, user)


@router.delete("/projects/{project_id}/users/{user_id}", operation_id="remove_project_user")
async def remove_project_user(project_id: str, user_id: str, admin: Admin) -> Deleted:
    """Remove a user from a project; its keys of the project are refused from then on."""
    async with admin.change() as change:
        await people.remove_project_user(change, project_id, user_id, version=admin.version)
    return Deleted(object="organization.project.user.deleted", id=user_id)


def describe_user(user: identity.User) -> User:
    """Return the user as clients see it."""
    return User(
        id=user.id, name=user.name, email=user.email, role=user.role, added_at=user.added_at
    )


def describe_member(member: identity.ProjectUser, user: identity.User) -> ProjectUser:
    """Return the user of a project as clients see it."""
    return ProjectUser(
        id=user.id, name=user.name, email=user.email, role=member.role, added_at=member.added_at
    )
