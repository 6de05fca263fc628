import re
import ssl
from pathlib import Path
from typing import Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from maxgate.settings_section import Section

_DATABASE: Final = re.compile(r"/?|/\d{1,4}", re.ASCII)
_SCHEMES: Final = ("redis", "rediss", "unix")

NO_DATABASE: Final = "none"
_POSTGRES_SCHEMES: Final = frozenset({"postgres", "postgresql", "postgresql+psycopg"})
_URL_FORMS: Final = "write postgresql://user@host:5432/name, sqlite:////path/to/file.db or none"


class DatabaseSettings(Section):
    """The database of identities (`auth.mode` keys) and of usage (`usage.enabled`)."""

    url: str | None = Field(default=None, repr=False)
    """URL such as `postgresql://user@host/name`; default: SQLite in `state_dir`; or `none`."""
    schema_name: str = Field(default="maxgate", pattern=r"^[a-z_][a-z0-9_]{0,62}$")
    """PostgreSQL schema that has all tables; created by `maxgate db upgrade`."""
    timeout: float = Field(default=5.0, gt=0, le=60)
    """Timeout of connecting, and of each statement, in seconds."""
    pool_size: int = Field(default=5, ge=1, le=1000)
    """Maximum number of connections of each worker process."""

    @property
    def is_enabled(self) -> bool:
        """Whether there is a database at all."""
        return self.url != NO_DATABASE

    @property
    def is_postgres(self) -> bool:
        """Whether the URL leads to PostgreSQL."""
        return self.url is not None and self.url.partition(":")[0] in _POSTGRES_SCHEMES

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is None or url == NO_DATABASE:
            return url
        try:
            parts = urlsplit(url)
            is_valid = parts.port != 0
        except ValueError:  # an invalid port
            is_valid = False
        # The value may hold a password, so no message has it.
        if not is_valid or any(character.isspace() for character in url):
            raise ValueError(f"not a URL of a database; {_URL_FORMS}")
        if reason := _find_fault(parts):
            raise ValueError(reason)
        return url

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if "schema_name" in self.model_fields_set and not self.is_postgres:
            raise ValueError("schema_name has no effect without a PostgreSQL database.url")
        if not self.is_enabled:
            for name in sorted(self.model_fields_set - {"url"}):
                raise ValueError(f"{name} has no effect with database.url: none; remove it")
        return self


def _find_fault(parts: SplitResult) -> str | None:
    """Return the rule that the URL of a database breaks."""
    if parts.scheme == "sqlite":
        is_path = len(parts.path) > 1 and not (parts.netloc or parts.query or parts.fragment)
        return None if is_path else "not the path of a file; write sqlite:////path/to/file.db"
    if parts.scheme not in _POSTGRES_SCHEMES:
        return f"{parts.scheme!r} is not supported; {_URL_FORMS}"
    if parts.fragment:
        return "a URL with #; percent-encode it in a password"
    if (parts.netloc + parts.path).count("@") > 1:  # or the password ends at the first one
        return "a URL with several @; percent-encode them in a password"
    if parts.path in {"", "/"}:
        return "no name of a database; write postgresql://user@host:5432/name"
    return None


class RedisSettings(Section):
    """Redis, which gateways on several hosts share; all other settings need `url`."""

    url: str | None = Field(default=None, repr=False)
    """URL of a Redis that several gateways share, such as `redis://host:6379/0`."""
    timeout: float = Field(default=0.25, gt=0, le=10)
    """Timeout of a call to Redis; the gateway goes on without it afterwards."""
    key_prefix: str = Field(default="maxgate", pattern=r"^[A-Za-z0-9_.:-]{1,64}$")
    """Beginning of every key; gateways with the same engines have the same one."""
    ca_file: Path | None = None
    """File with the CA certificates to trust, in PEM, for `rediss://`; by default the system's."""

    @property
    def address(self) -> str:
        """Host and port, or the path of the socket: the URL without what must not be shown."""
        parts = urlsplit(self.url or "")
        return parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            is_valid = parts.scheme in _SCHEMES and parts.port != 0
        except ValueError:  # an invalid port
            is_valid = False
        place = parts.path if is_valid and parts.scheme == "unix" else is_valid and parts.hostname
        if not place or any(character.isspace() for character in url):
            # The value may hold a password.
            raise ValueError("not a Redis URL; write redis://host:6379/0")
        if parts.scheme != "unix" and not _DATABASE.fullmatch(parts.path):
            raise ValueError(f"{parts.path[1:]!r} is not a database; write redis://host:6379/0")
        if parts.query or parts.fragment:
            raise ValueError("a Redis URL with ? or #; percent-encode them in a password")
        return url

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if self.url is None:
            for name in sorted(self.model_fields_set):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect without redis.url; set it too")
        elif self.ca_file is not None:
            if not self.url.startswith("rediss:"):
                raise ValueError("ca_file needs a url that starts with rediss://")
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:  # ssl.SSLError is one
                reason = error.strerror or "no certificates in PEM format"
                raise ValueError(f"ca_file {str(self.ca_file)!r}: {reason}") from error
        return self
