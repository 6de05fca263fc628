import re
import ssl
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from maxgate.settings_section import Section

_DATABASE: Final = re.compile(r"/?|/\d{1,4}", re.ASCII)
_SCHEMES: Final = ("redis", "rediss", "unix")


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
