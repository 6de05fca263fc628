"""API keys in a file, as `maxgate keys` creates, lists and revokes them."""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer
from pydantic import ValidationError

from maxgate.auth.api_key import generate_key, hash_key
from maxgate.auth.key_file import DEFAULT_PROJECT, HASH_PREFIX, KeyEntry, read_key_file
from maxgate.auth.key_file_changes import add_entry, disable_entry
from maxgate.auth.pepper import load_peppers
from maxgate.cli.key_options import NewKey
from maxgate.cli.tables import print_object, print_rows, say
from maxgate.errors import ConfigurationError
from maxgate.settings import Settings

_COLUMNS: Final = ("id", "name", "project", "owner", "models", "expires", "state", "hash")


def create(path: Path, new: NewKey, settings: Settings) -> tuple[str, str]:
    """Add a key to the file; returns its id and the key."""
    key = generate_key()
    fields = {
        "id": f"key_{secrets.token_hex(8)}",
        "hash": hash_with_pepper(key, settings),
        "name": new.name,
        "project": new.project or DEFAULT_PROJECT,
        "owner": new.owner,
        "models": new.models,
        "networks": new.networks,
        "expires": new.expires and new.expires.isoformat(),
        "service_class": new.service_class,
        "admin": new.is_admin,
    }
    unset = (None, "", False)
    entry = _build_entry({name: value for name, value in fields.items() if value not in unset})
    add_entry(path, entry)
    say(f"{entry.id} is in {path}. The key is shown only now.")
    return entry.id, key


def list_keys(path: Path, *, as_json: bool) -> None:
    """List the keys, with the beginning of their hashes."""
    print_rows(_COLUMNS, [_describe(entry) for entry in read_key_file(path)], as_json=as_json)


def show(path: Path, key_id: str, *, as_json: bool) -> None:
    """Show a key; raises ConfigurationError if there is none."""
    found = next((entry for entry in read_key_file(path) if entry.id == key_id), None)
    if found is None:
        raise ConfigurationError(
            f"{path}: no key has the id {key_id[:100]!r}; `maxgate keys list --file` lists them"
        )
    print_object(_describe(found), as_json=as_json)


def revoke(path: Path, key_id: str) -> None:
    """Disable a key."""
    say(f"{disable_entry(path, key_id).id} is revoked in {path}.")


def hash_with_pepper(key: str, settings: Settings) -> str:
    """Return the hash of a key as the file has it."""
    peppers = load_peppers(settings.auth, settings.state_dir, create=True)
    return HASH_PREFIX + hash_key(key, peppers[0]).hex()


def _build_entry(fields: dict[str, Any]) -> KeyEntry:
    try:
        return KeyEntry.model_validate(fields)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        field = str(details["loc"][0]).replace("_", "-")
        message = details["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(message, param_hint=f"--{field}") from None


def _describe(entry: KeyEntry) -> dict[str, Any]:
    state = "active"
    if entry.expires is not None and entry.expires <= datetime.now(UTC):
        state = "expired"
    return {
        "id": entry.id,
        "name": entry.name,
        "project": entry.project,
        "owner": entry.owner,
        "models": entry.models,
        "networks": entry.networks,
        "expires": entry.expires and entry.expires.isoformat(),
        "service_class": entry.service_class,
        "admin": entry.admin,
        "state": "revoked" if entry.disabled else state,
        "hash": entry.hash.removeprefix(HASH_PREFIX)[:8],
    }
