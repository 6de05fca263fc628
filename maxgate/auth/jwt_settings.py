"""Settings of JSON Web Tokens, and the rules for URLs of their identity provider."""

import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from maxgate.settings_section import Section, split_list

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519", "EdDSA"),
)
"""Signatures with a private key (RFC 7518, RFC 8037, RFC 9864); the gateway knows no secret."""

_CLAIM: Final = r"^[^\x00-\x20\x7f]{1,200}$"

StringList = Annotated[list[str], NoDecode, BeforeValidator(split_list)]
Claim = Annotated[str, Field(pattern=_CLAIM)]


class JwtSettings(Section):
    """JSON Web Tokens of an OpenID Connect provider; all other settings need `issuer`."""

    issuer: str | None = None
    """URL of the provider as in `iss` of its tokens, such as `https://login.example.com/realm`."""
    audiences: StringList = Field(default=[], max_length=32)
    """Accepted values of `aud`, which name the gateway; required, comma-separated in variables."""
    algorithms: StringList = Field(default=[])
    """Accepted signature algorithms, such as `RS256`; required, comma-separated in variables."""
    jwks_url: str | None = None
    """URL of the provider's public keys; by default the one in its OpenID configuration."""
    ca_file: Path | None = None
    """File with the CA certificates to trust, in PEM; by default the system's."""
    timeout: float = Field(default=5, gt=0, le=60)
    """Timeout of fetching the public keys."""
    leeway: float = Field(default=30, ge=0, le=600)
    """Tolerated difference between the clocks of provider and gateway."""
    refresh_interval: float = Field(default=300, ge=10, le=86_400)
    """Interval of fetching the public keys; a withdrawn key is accepted for at most this time."""
    unknown_key_interval: float = Field(default=10, ge=1, le=3600)
    """Minimum time between fetches for tokens with unknown keys, and interval after a failure."""
    max_stale: float = Field(default=900, ge=10, le=604_800)
    """Time for which known public keys are used while the provider is unreachable."""
    cache_size: int = Field(default=10_000, ge=1, le=1_000_000)
    """Maximum number of verified tokens that each worker remembers."""
    project_claim: Claim | None = None
    """Claim with the project, such as `project`; by default each user is a project."""
    require_known_project: bool = False
    """Refuse tokens whose project is not in the database; needs `auth.mode: keys+jwt`."""
    user_claim: Claim = "sub"
    """Claim with the user."""
    service_class_claim: Claim | None = None
    """Claim with the class of requests: `priority`, `default` or `flex`; may be absent."""
    models_claim: Claim | None = None
    """Claim with the list of models that the caller may use; by default all."""
    groups_claim: Claim = "groups"
    """Claim with the caller's groups or roles, such as `realm_access.roles`."""
    allowed_groups: StringList = Field(default=[])
    """Groups that may use the gateway, any of them; by default everyone may."""
    admin_groups: StringList = Field(default=[])
    """Groups that may use the admin API, any of them; by default nobody may."""
    required_scopes: StringList = Field(default=[])
    """Scopes that a token must have, all of them, in `scope` or `scp`."""

    @field_validator("algorithms")
    @classmethod
    def _check_algorithms(cls, algorithms: list[str]) -> list[str]:
        for name in algorithms:
            if name not in ALGORITHMS:
                reason = "unknown algorithm"
                if name.startswith("HS") or name.lower() == "none":
                    reason = "tokens must be signed with a private key"
                raise ValueError(f"{name[:20]!r}: {reason}; use {', '.join(ALGORITHMS)}")
        return algorithms

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _check_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_provider_url(url, allow_http=True)
        return url

    @model_validator(mode="after")
    def _check_use(self) -> Self:
        if self.issuer is None:
            for name in sorted(self.model_fields_set):
                if getattr(self, name) not in (None, []):
                    raise ValueError(f"{name} has no effect without jwt.issuer; set it too")
            return self
        missing = [name for name in ("audiences", "algorithms") if not getattr(self, name)]
        if missing:
            names = " and ".join(f"jwt.{name}" for name in missing)
            raise ValueError(f"jwt.issuer needs {names}; set them too")
        if self.require_known_project and self.project_claim is None:
            raise ValueError(
                "require_known_project has no effect without jwt.project_claim; set it too"
            )
        has_groups = self.allowed_groups or self.admin_groups
        if "groups_claim" in self.model_fields_set and not has_groups:
            raise ValueError(
                "groups_claim has no effect without jwt.allowed_groups or jwt.admin_groups; "
                "set one of them too"
            )
        if self.max_stale < self.refresh_interval:
            raise ValueError("max_stale is less than refresh_interval; make it at least as long")
        return self

    @model_validator(mode="after")
    def _check_ca_file(self) -> Self:
        if self.ca_file is not None:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:  # ssl.SSLError is one
                reason = error.strerror or "no certificates in PEM format"
                raise ValueError(f"ca_file {str(self.ca_file)!r}: {reason}") from error
        return self


def check_provider_url(url: str, *, allow_http: bool) -> None:
    """Raise ValueError unless the URL is https, or http to this machine if `allow_http`.

    An attacker on the network could replace the keys in an http response, and then sign tokens.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid or not url.isascii() or any(not c.isprintable() or c == " " for c in url):
        raise ValueError("not a URL; write https://login.example.com")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("a URL with credentials, ? or #; remove them")
    if parts.scheme != "https" and not (allow_http and is_loopback_http(parts)):
        raise ValueError("must start with https://, because the public keys come from there")


def is_loopback_http(parts: SplitResult) -> bool:
    """Whether a URL is http and leads to this machine."""
    host = parts.hostname or ""
    if host == "localhost":
        return parts.scheme == "http"
    try:
        return parts.scheme == "http" and ip_address(host).is_loopback
    except ValueError:
        return False
