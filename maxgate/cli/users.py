"""`maxgate users`: add users, set their roles, and make them members of projects."""

from typing import Annotated, Any, Final

import typer

from maxgate.auth.organization import people
from maxgate.auth.organization.changes import Change
from maxgate.cli.organization import (
    change,
    find_project,
    find_user,
    list_all,
    load_database_settings,
    read,
    say_delay,
)
from maxgate.cli.projects import JsonOption
from maxgate.cli.tables import confirm, print_object, print_rows, say
from maxgate.errors import ConfigurationError
from maxgate.stores.identity import (
    IdentityTransaction,
    OrganizationRole,
    Page,
    ProjectRole,
    ProjectUser,
    User,
)

UserArgument = Annotated[str, typer.Argument(help="Id or e-mail address.", metavar="USER")]
ProjectArgument = Annotated[str, typer.Argument(help="Id or name.", metavar="PROJECT")]
_COLUMNS: Final = ("id", "email", "name", "role", "added_at")
_MEMBERSHIP_COLUMNS: Final = ("project_id", "project", "role", "added_at")


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="Manage users and their projects.", no_args_is_help=True)
    app.command("list")(list_users)
    app.command("add")(add)
    app.command("set-role")(set_role)
    app.command("delete")(delete)
    projects = typer.Typer(help="Manage the projects of a user.", no_args_is_help=True)
    projects.command("list")(list_memberships)
    projects.command("join")(join)
    projects.command("leave")(leave)
    app.add_typer(projects, name="projects")
    return app


def list_users(*, as_json: JsonOption = False) -> None:
    """List the users of the organization."""

    async def work(rows: IdentityTransaction) -> list[User]:
        return await list_all(rows.users)

    print_rows(_COLUMNS, [describe_user(user) for user in read(work)], as_json=as_json)


def add(
    email: Annotated[str, typer.Argument(help="E-mail address.")],
    name: Annotated[
        str | None, typer.Option(help="Name.", show_default="the beginning of the address")
    ] = None,
    role: Annotated[OrganizationRole, typer.Option(help="Role in the organization.")] = "reader",
    *,
    as_json: JsonOption = False,
) -> None:
    """Add a user, and print the id."""

    async def work(transaction: Change) -> User:
        if (await transaction.rows.users.list(Page(limit=1), email=email)).items:
            raise ConfigurationError(f"a user with the e-mail address {email!r} exists already")
        return await people.add_user(transaction, email, name, role)

    user = change(work)
    if as_json:
        print_object(describe_user(user), as_json=True)
    else:
        print(user.id)
        say(f"Next: maxgate users projects join {user.id} PROJECT")


def set_role(
    user: UserArgument,
    role: Annotated[OrganizationRole, typer.Argument(help="Role in the organization.")],
) -> None:
    """Set the role of a user in the organization."""

    async def work(transaction: Change) -> User:
        found = await find_user(transaction.rows, user)
        return await people.set_user_role(transaction, found.id, role)

    say(f"{change(work).id} has the role {role}.")


def delete(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a user: the user's keys are refused."""
    settings = load_database_settings()
    confirm(f"Delete {user}?", yes=yes)

    async def work(transaction: Change) -> User:
        found = await find_user(transaction.rows, user)
        await people.delete_user(transaction, found.id)
        return found

    say_delay(settings, f"{change(work).id} is deleted, and the user's keys are refused")


def list_memberships(user: UserArgument, *, as_json: JsonOption = False) -> None:
    """List the projects of a user."""

    async def work(rows: IdentityTransaction) -> list[dict[str, Any]]:
        found = await find_user(rows, user)
        memberships = []
        for project in await list_all(rows.projects):
            member = await rows.project_users.find(project.id, found.id)
            if member is not None:
                memberships.append(
                    {
                        "project_id": project.id,
                        "project": project.name,
                        "role": member.role,
                        "added_at": member.added_at,
                    }
                )
        return memberships

    print_rows(_MEMBERSHIP_COLUMNS, read(work), as_json=as_json)


def join(
    user: UserArgument,
    project: ProjectArgument,
    role: Annotated[ProjectRole, typer.Option(help="Role in the project.")] = "member",
) -> None:
    """Add a user to a project, or set the role of a member; keys need member or owner."""
    settings = load_database_settings()

    async def work(transaction: Change) -> ProjectUser:
        found = await find_user(transaction.rows, user)
        joined = await find_project(transaction.rows, project)
        if await transaction.rows.project_users.find(joined.id, found.id) is None:
            member, _ = await people.add_project_user(
                transaction, joined.id, role, user_id=found.id
            )
        else:
            member, _ = await people.set_project_role(transaction, joined.id, found.id, role)
        return member

    member = change(work)
    say_delay(settings, f"{member.user_id} has the role {role} in {member.project_id}")


def leave(user: UserArgument, project: ProjectArgument) -> None:
    """Remove a user from a project: the user's keys of it are refused."""
    settings = load_database_settings()

    async def work(transaction: Change) -> str:
        found = await find_user(transaction.rows, user)
        left = await find_project(transaction.rows, project)
        await people.remove_project_user(transaction, left.id, found.id)
        return f"{found.id} is not in {left.id} any more"

    say_delay(settings, change(work))


def describe_user(user: User) -> dict[str, Any]:
    """Return the fields of a user that lists show."""
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "added_at": user.added_at,
    }
