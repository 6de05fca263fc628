"""`maxgate projects`: create, list, show, rename and archive projects, and choose their models."""

from typing import Annotated, Any, Final

import typer

from maxgate.auth.organization import projects
from maxgate.auth.organization.changes import Change
from maxgate.cli.organization import (
    change,
    find_project,
    list_all,
    load_database_settings,
    read,
    say_delay,
)
from maxgate.cli.tables import confirm, print_object, print_rows, say
from maxgate.errors import ConfigurationError
from maxgate.stores.identity import IdentityTransaction, PermissionMode, Project

ProjectArgument = Annotated[str, typer.Argument(help="Id or name.", metavar="PROJECT")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelsArgument = Annotated[
    list[str], typer.Argument(help="Names or aliases of models.", metavar="MODEL...")
]
_COLUMNS: Final = ("id", "name", "status", "created_at")


def commands() -> typer.Typer:
    """Build the subcommands."""
    app = typer.Typer(help="Manage projects, and the models they may use.", no_args_is_help=True)
    app.command("create")(create)
    app.command("list")(list_projects)
    app.command("show")(show)
    app.command("rename")(rename)
    app.command("archive")(archive)
    models = typer.Typer(help="Choose the models of a project.", no_args_is_help=True)
    models.command("allow")(allow_models)
    models.command("deny")(deny_models)
    models.command("clear")(clear_models)
    app.add_typer(models, name="models")
    return app


def create(
    name: Annotated[str, typer.Argument(help="Name of the project.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Create a project, and print its id."""

    async def work(transaction: Change) -> Project:
        return await projects.create_project(transaction, name)

    project = change(work)
    if as_json:
        print_object(describe_project(project), as_json=True)
    else:
        print(project.id)
        say(f"Next: maxgate keys create --project {project.id} --name NAME")


def list_projects(
    *,
    archived: Annotated[bool, typer.Option("--archived", help="List archived ones, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the projects."""

    async def work(rows: IdentityTransaction) -> list[Project]:
        return await list_all(rows.projects)

    found = [describe_project(project) for project in read(work)]
    shown = [project for project in found if archived or project["status"] == "active"]
    print_rows(_COLUMNS, shown, as_json=as_json)


def show(project: ProjectArgument, *, as_json: JsonOption = False) -> None:
    """Show a project with its members, and how many keys it has."""

    async def work(rows: IdentityTransaction) -> dict[str, Any]:
        found = await find_project(rows, project)
        permissions = await projects.get_model_permissions(rows, found.id)
        members = await list_all(rows.project_users, project_id=found.id)
        accounts = await list_all(rows.service_accounts, project_id=found.id)
        keys = await list_all(rows.keys, project_id=found.id)
        is_restricted = permissions.version > 0
        return {
            **describe_project(found),
            "archived_at": found.archived_at,
            "models_mode": permissions.mode if is_restricted else None,
            "models": list(permissions.model_ids) if is_restricted else None,
            "users": [f"{member.user_id} ({member.role})" for member in members],
            "service_accounts": [f"{account.id} ({account.name})" for account in accounts],
            "keys": len(keys),
        }

    print_object(read(work), as_json=as_json)


def rename(
    project: ProjectArgument, name: Annotated[str, typer.Argument(help="New name.")]
) -> None:
    """Rename a project; its id stays."""

    async def work(transaction: Change) -> Project:
        found = await find_project(transaction.rows, project)
        return await projects.rename_project(transaction, found.id, name)

    say(f"{change(work).id} has the name {name!r}.")


def archive(
    project: ProjectArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Archive a project for ever: its keys are refused."""
    settings = load_database_settings()
    confirm(f"Archive {project} for ever?", yes=yes)

    async def work(transaction: Change) -> Project:
        found = await find_project(transaction.rows, project)
        return await projects.archive_project(transaction, found.id)

    say_delay(settings, f"{change(work).id} is archived, and its keys are refused")


def allow_models(project: ProjectArgument, models: ModelsArgument) -> None:
    """Allow a project these models only; replaces its list."""
    _set_models(project, "allow_list", models)


def deny_models(project: ProjectArgument, models: ModelsArgument) -> None:
    """Deny a project these models; replaces its list."""
    _set_models(project, "deny_list", models)


def clear_models(project: ProjectArgument) -> None:
    """Allow a project all models."""
    settings = load_database_settings()

    async def work(transaction: Change) -> Project:
        found = await find_project(transaction.rows, project)
        await projects.delete_model_permissions(transaction, found.id)
        return found

    say_delay(settings, f"{change(work).id} may use all models")


def _set_models(project: str, mode: PermissionMode, models: list[str]) -> None:
    settings = load_database_settings()
    if any(not model.strip() or "," in model for model in models):
        raise ConfigurationError("a model has an empty name or a comma; separate them by spaces")

    async def work(transaction: Change) -> Project:
        found = await find_project(transaction.rows, project)
        await projects.set_model_permissions(transaction, found.id, mode, models)
        return found

    verb = "may use only" if mode == "allow_list" else "may not use"
    say_delay(settings, f"{change(work).id} {verb} {', '.join(models)}")


def describe_project(project: Project) -> dict[str, Any]:
    """Return the fields of a project that lists show."""
    return {
        "id": project.id,
        "name": project.name,
        "status": "active" if project.archived_at is None else "archived",
        "created_at": project.created_at,
    }
