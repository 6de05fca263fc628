"""The file with API keys: only their hashes, with the rights of each."""

import difflib
import re
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from maxgate.auth.api_key import PREFIX
from maxgate.auth.identity import Identity
from maxgate.errors import ConfigurationError
from maxgate.generation.context import Principal, ServiceClass
from maxgate.settings_section import Section, choose_error
from maxgate.yaml_text import BoundedLoader, parse_yaml

HASH_PREFIX: Final = "hmac-sha256:"
DEFAULT_PROJECT: Final = "default"

_HASH: Final = rf"^{HASH_PREFIX}[0-9a-f]{{64}}$"
_ID: Final = r"^[A-Za-z0-9_.@:/-]{1,100}$"
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def parse_time(value: Any) -> datetime:
    """Parse a date, which means 00:00 UTC, or a time with its zone; raises ValueError."""
    if isinstance(value, datetime):
        return value
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(
            f"{str(value)[:50]!r} is not a date or time; write 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from None
    if _DATE.fullmatch(str(value)):
        return time.replace(tzinfo=UTC)
    if time.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; write {value}Z for UTC")
    return time


class KeyEntry(Section):
    """One key. A `disabled` one is refused, and stays listed."""

    id: str = Field(pattern=_ID)
    hash: str = Field(pattern=_HASH, repr=False)
    name: str = Field(default="", max_length=200)
    project: str = Field(default=DEFAULT_PROJECT, pattern=_ID)
    owner: str | None = Field(default=None, pattern=_ID)
    models: list[str] | None = None
    networks: list[str] | None = None
    expires: Annotated[datetime, BeforeValidator(parse_time)] | None = None
    service_class: ServiceClass | None = None
    admin: bool = False
    disabled: bool = False

    @field_validator("id", "name")
    @classmethod
    def _check_text(cls, text: str) -> str:
        if PREFIX in text:
            raise ValueError("must not hold a key, because it appears in logs")
        return text

    @field_validator("models", "networks", "expires", mode="before")
    @classmethod
    def _check_limit(cls, value: Any) -> Any:
        # A limit whose lines are all commented out must not allow everything.
        if value in (None, "", []):
            raise ValueError("is empty; remove the field to set no limit")
        return value

    @field_validator("networks")
    @classmethod
    def _check_networks(cls, networks: list[str] | None) -> list[str] | None:
        for network in networks or ():
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(f"{error}; write 10.0.0.0/8 or 2001:db8::1") from None
        return networks

    @property
    def digest(self) -> bytes:
        """The hash as bytes."""
        return bytes.fromhex(self.hash.removeprefix(HASH_PREFIX))

    def build_identity(self) -> Identity:
        """Build the identity of callers with this key."""
        return Identity(
            Principal(
                tenant_id=self.project,
                project_id=self.project,
                owner_id=self.owner or self.id,
                key_id=self.id,
                service_class=self.service_class or "default",
                highest_class=self.service_class or "priority",
            ),
            models=None if self.models is None else frozenset(self.models),
            networks=tuple(self.networks or ()),
            expires_at=None if self.expires is None else self.expires.timestamp(),
            is_admin=self.admin,
        )


class _KeyFile(Section):
    keys: list[KeyEntry] = Field(default=[])


class _Loader(BoundedLoader):
    """Leaves times as text."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in BoundedLoader.yaml_implicit_resolvers.items()
    }


def read_key_file(path: Path) -> list[KeyEntry]:
    """Read the file; raises ConfigurationError that names file, entry, field and rule."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"setting auth.keys_file: {path} does not exist; `maxgate keys create --file` writes it"
        ) from error
    except OSError as error:
        raise ConfigurationError(f"setting auth.keys_file: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: not UTF-8 text") from None
    return parse_keys(text, path)


def parse_keys(text: str, path: Path) -> list[KeyEntry]:
    """Parse the content of the file; raises ConfigurationError as read_key_file does."""
    content = _parse_yaml(text, path)
    try:
        keys = _KeyFile.model_validate(content).keys
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {_describe(error, content)}") from None
    for field in ("id", "hash"):
        seen: set[str] = set()
        for entry in keys:
            value = getattr(entry, field)
            if value in seen:
                raise ConfigurationError(f"{path}: two keys have the {field} of {entry.id!r}")
            seen.add(value)
    return keys


def _parse_yaml(text: str, path: Path) -> dict[str, Any]:
    content = parse_yaml(text, str(path), _Loader)
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: must hold `keys:` and a list")
    # A list whose entries are all commented out is None.
    return {key: value for key, value in content.items() if value is not None or key != "keys"}


def _describe(error: ValidationError, content: dict[str, Any]) -> str:
    """Describe the first error without a value, which might be a key in plain text."""
    details = choose_error(error)
    steps = details["loc"]
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)[1:]
    if len(steps) > 1:
        entry = content["keys"][steps[1]]
        if isinstance(entry, dict) and isinstance(name := entry.get("id"), str):
            where += f" (key {name[:100]!r})"
    if details["type"] == "extra_forbidden":
        known = KeyEntry.model_fields if len(steps) > 1 else _KeyFile.model_fields
        close = difflib.get_close_matches(str(steps[-1]), known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{where}: unknown field; {hint}"
    if steps[-1] == "hash":
        return f"{where}: must be {HASH_PREFIX} and 64 hexadecimal digits, of `maxgate keys hash`"
    return f"{where}: {details['msg'].removeprefix('Value error, ')}"
