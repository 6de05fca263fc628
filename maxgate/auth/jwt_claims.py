"""Turns the claims of a token with a valid signature into an identity, or refuses them.

Reasons are labels: they name the claim's role, never its value. Claims with a wrong type are
refused and never converted, because two callers with different claims must not become one.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, get_args

from maxgate.auth.identity import Identity, InvalidCredential
from maxgate.auth.jwt_settings import JwtSettings
from maxgate.generation.context import Principal, ServiceClass

MAX_ITEMS: Final = 1000
_MAX_USER_LENGTH: Final = 255
"""Of `sub` (OpenID Connect Core 1.0, section 2)."""
_MAX_TIME: Final = 1e11
"""Unix seconds of the year 5138; far above, floats and the clock's arithmetic fail."""
_PROJECT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@/-]{0,127}")
_CLASSES: Final = frozenset(get_args(ServiceClass))

Claims = Mapping[str, Any]


class ClaimsReader:
    """Checks claims by the settings."""

    def __init__(self, settings: JwtSettings) -> None:
        self._settings = settings
        self._audiences = frozenset(settings.audiences)
        self._groups = frozenset(settings.allowed_groups)
        self._admin_groups = frozenset(settings.admin_groups)
        self._scopes = frozenset(settings.required_scopes)

    def read(self, claims: Claims, now: float) -> Identity:
        """Return the identity; raises InvalidCredential. `now` is in Unix seconds."""
        if claims.get("iss") != self._settings.issuer:
            raise InvalidCredential("wrong_issuer")
        self._check_audience(claims.get("aud"))
        expires_at = self._check_times(claims, now)
        self._check_rights(claims)
        models = None
        if self._settings.models_claim is not None:
            models = frozenset(_read_list(claims, self._settings.models_claim, "models"))
        is_admin = self._is_admin(claims)
        principal = self._build_principal(claims)
        return Identity(principal, models, expires_at=expires_at, is_admin=is_admin)

    def _is_admin(self, claims: Claims) -> bool:
        groups_claim = self._settings.groups_claim
        if not self._admin_groups or find_claim(claims, groups_claim) is None:
            return False
        return not self._admin_groups.isdisjoint(_read_list(claims, groups_claim, "groups"))

    def _check_audience(self, audience: Any) -> None:
        named = [audience] if isinstance(audience, str) else audience
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise InvalidCredential("invalid_audience")
        if self._audiences.isdisjoint(named):
            raise InvalidCredential("wrong_audience")

    def _check_times(self, claims: Claims, now: float) -> float:
        leeway = self._settings.leeway
        expires_at = _read_time(claims, "exp")
        if expires_at is None:
            raise InvalidCredential("no_expiry")
        if now >= expires_at + leeway:
            raise InvalidCredential("expired")
        for name in ("nbf", "iat"):
            time = _read_time(claims, name)
            if time is not None and now < time - leeway:
                raise InvalidCredential("not_yet_valid")
        return expires_at + leeway

    def _check_rights(self, claims: Claims) -> None:
        if self._groups:
            groups = _read_list(claims, self._settings.groups_claim, "groups")
            if self._groups.isdisjoint(groups):
                raise InvalidCredential("wrong_groups")
        if self._scopes:
            name = "scope" if "scope" in claims else "scp"
            scopes = claims.get(name)
            # A string with spaces (RFC 8693, section 4.2), or the list of some providers.
            held = scopes.split(" ") if isinstance(scopes, str) else _read_list(claims, name, name)
            if not self._scopes.issubset(held):
                raise InvalidCredential("wrong_scope")

    def _build_principal(self, claims: Claims) -> Principal:
        settings = self._settings
        user = _read_text(claims, settings.user_claim, "user", _MAX_USER_LENGTH)
        # A colon keeps these ids apart from projects, which have none.
        owner_id = f"user:{_hash(settings.issuer or '', user)}"
        project_id = owner_id
        if settings.project_claim is not None:
            project_id = _read_text(claims, settings.project_claim, "project", 128)
            if not _PROJECT.fullmatch(project_id):
                raise InvalidCredential("invalid_project")
        service_class: Any = "default"
        if settings.service_class_claim is not None:
            found = find_claim(claims, settings.service_class_claim)
            service_class = "default" if found is None else found
            if not isinstance(service_class, str) or service_class not in _CLASSES:
                raise InvalidCredential("invalid_service_class")
        return Principal(project_id, project_id, owner_id, "", service_class)


def find_claim(claims: Claims, name: str) -> Any:
    """Find a claim by its name, or else by its path, such as `realm_access.roles`.

    Names may have dots, as in `https://example.com/groups`. None if it is absent or null.
    """
    if name in claims:
        return claims[name]
    value: Any = claims
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _read_text(claims: Claims, name: str, role: str, max_length: int) -> str:
    value = find_claim(claims, name)
    if value is None:
        raise InvalidCredential(f"no_{role}")
    if not isinstance(value, str) or not 0 < len(value) <= max_length or not value.isprintable():
        raise InvalidCredential(f"invalid_{role}")
    return value


def _read_list(claims: Claims, name: str, role: str) -> list[str]:
    value = find_claim(claims, name)
    if value is None:
        raise InvalidCredential(f"no_{role}")
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        raise InvalidCredential(f"invalid_{role}")
    if not all(isinstance(item, str) for item in items):
        raise InvalidCredential(f"invalid_{role}")
    return items


def _read_time(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    # Not isinstance, because true is an int. The comparison fails for NaN and infinity.
    if type(value) not in {int, float} or not 0 <= value <= _MAX_TIME:
        raise InvalidCredential(f"invalid_{name}")
    return float(value)


def _hash(issuer: str, user: str) -> str:
    # `sub` is unique for one issuer only, and may be a name or an address.
    text = f"{len(issuer)}:{issuer}{user}"
    return blake2b(text.encode(), digest_size=16, person=b"maxgate user").hexdigest()
