"""The mapping of claims to identities."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxgate.auth.identity import Identity, InvalidCredential
from maxgate.auth.jwt_claims import MAX_ITEMS, ClaimsReader
from maxgate.generation.context import Principal
from tests.unit.auth.jwt_examples import AUDIENCE, NOW, build_claims, build_settings

ALICE = "user:a8bc629d6b81fc7ea3006c1e55283517"


def read(claims: dict[str, Any], **changes: Any) -> Identity:
    """Read claims by settings with changes."""
    return ClaimsReader(build_settings(**changes)).read(claims, NOW)


def refuse(claims: dict[str, Any], **changes: Any) -> str:
    """Return the reason of the refusal."""
    with pytest.raises(InvalidCredential) as refusal:
        read(claims, **changes)
    return refusal.value.reason


def test_defaults() -> None:
    """Without a mapping, every user is a project of its own, and may use all models."""
    identity = read(build_claims())
    principal = Principal(ALICE, ALICE, ALICE, "", "default")
    assert identity == Identity(principal, None, (), int(NOW) + 3600 + 30)


def test_mapping() -> None:
    """Claims are found by name and by path."""
    claims = build_claims(
        **{
            "https://example.com/team": "team-a",
            "oid": "alice",
            "tier": "flex",
            "access": {"gateway": {"models": ["llama", "qwen"]}},
        }
    )
    identity = read(
        claims,
        project_claim="https://example.com/team",
        user_claim="oid",
        service_class_claim="tier",
        models_claim="access.gateway.models",
    )
    principal = Principal("team-a", "team-a", ALICE, "", "flex")
    assert identity.principal == principal
    assert identity.models == {"llama", "qwen"}


def test_issuers() -> None:
    """The same user name of two issuers is two users."""
    other = build_claims(iss="https://other.example.com")
    assert read(other, issuer="https://other.example.com").principal.owner_id != ALICE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": None}, "wrong_issuer"),
        ({"iss": "https://login.example.com/realm/"}, "wrong_issuer"),
        ({"iss": "https://login.example.com"}, "wrong_issuer"),
        ({"iss": ["https://login.example.com/realm"]}, "wrong_issuer"),
        ({"aud": None}, "invalid_audience"),
        ({"aud": "other"}, "wrong_audience"),
        ({"aud": ""}, "wrong_audience"),
        ({"aud": []}, "wrong_audience"),
        ({"aud": AUDIENCE + "/"}, "wrong_audience"),
        ({"aud": [AUDIENCE.upper()]}, "wrong_audience"),
        ({"aud": [AUDIENCE, 1]}, "invalid_audience"),
        ({"aud": [[AUDIENCE]]}, "invalid_audience"),
        ({"aud": {AUDIENCE: True}}, "invalid_audience"),
        ({"exp": None}, "no_expiry"),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": 0}, "expired"),
        ({"exp": str(NOW + 60)}, "invalid_exp"),
        ({"exp": math.inf}, "invalid_exp"),
        ({"exp": math.nan}, "invalid_exp"),
        ({"exp": 10**400}, "invalid_exp"),
        ({"exp": -1}, "invalid_exp"),
        ({"exp": True}, "invalid_exp"),
        ({"exp": [NOW + 60]}, "invalid_exp"),
        ({"nbf": NOW + 31}, "not_yet_valid"),
        ({"nbf": "0"}, "invalid_nbf"),
        ({"nbf": False}, "invalid_nbf"),
        ({"iat": NOW + 31}, "not_yet_valid"),
        ({"iat": "now"}, "invalid_iat"),
        ({"sub": None}, "no_user"),
        ({"sub": ""}, "invalid_user"),
        ({"sub": 1}, "invalid_user"),
        ({"sub": ["alice"]}, "invalid_user"),
        ({"sub": {"name": "alice"}}, "invalid_user"),
        ({"sub": "a" * 256}, "invalid_user"),
        ({"sub": "alice\n"}, "invalid_user"),
        ({"sub": "\ud800"}, "invalid_user"),
    ],
)
def test_registered_claims(changes: dict[str, Any], reason: str) -> None:
    """Each registered claim that is absent, wrong or of another type is refused by its name."""
    assert refuse(build_claims(**changes)) == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 29.5},
        {"exp": NOW + 0.5},
        {"nbf": NOW + 30},
        {"iat": NOW + 30},
        {"iat": None},
        {"aud": ["other", AUDIENCE]},
        {"sub": "a" * 255},
        {"sub": "Ålice"},
    ],
)
def test_accepted(changes: dict[str, Any]) -> None:
    """Clocks may differ by the leeway, and one of several audiences is enough."""
    assert read(build_claims(**changes)).models is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no_project"),
        ("", "invalid_project"),
        (1, "invalid_project"),
        (True, "invalid_project"),
        (["team-a"], "invalid_project"),
        ("team a", "invalid_project"),
        ("team-a\n", "invalid_project"),
        (ALICE, "invalid_project"),
        ("-a", "invalid_project"),
        ("ä", "invalid_project"),
        ("a" * 129, "invalid_project"),
    ],
)
def test_project(value: Any, reason: str) -> None:
    """A token without a valid project is refused, and never belongs to another project."""
    assert refuse(build_claims(project=value), project_claim="project") == reason


@pytest.mark.parametrize("value", ["Priority", "vip", "", 1, ["flex"], {}, False])
def test_service_class(value: Any) -> None:
    """An unknown class is refused, and an absent one is the default."""
    assert refuse(build_claims(tier=value), service_class_claim="tier") == "invalid_service_class"
    assert read(build_claims(), service_class_claim="tier").principal.service_class == "default"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no_models"),
        (1, "invalid_models"),
        ({"llama": True}, "invalid_models"),
        (["llama", None], "invalid_models"),
        (["a"] * (MAX_ITEMS + 1), "invalid_models"),
    ],
)
def test_models(value: Any, reason: str) -> None:
    """A list of models that is absent is not taken for all models."""
    assert refuse(build_claims(models=value), models_claim="models") == reason


def test_no_models() -> None:
    """An empty list allows no model."""
    assert read(build_claims(models=[]), models_claim="models").models == frozenset()


@pytest.mark.parametrize(
    ("groups", "is_admin"),
    [(None, False), ([], False), (["ops"], True), ("ops", True), (["opsx"], False)],
)
def test_admin_groups(groups: Any, *, is_admin: bool) -> None:
    """Callers in an admin group may use the admin API, and those without groups may not."""
    assert read(build_claims(groups=groups), admin_groups=["ops"]).is_admin is is_admin


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (None, "no_groups"),
        ([], "wrong_groups"),
        (["Staff"], "wrong_groups"),
        ("staffs", "wrong_groups"),
        (["staff", 1], "invalid_groups"),
        ({"staff": 1}, "invalid_groups"),
    ],
)
def test_groups(groups: Any, reason: str) -> None:
    """Callers outside of the allowed groups are refused."""
    assert refuse(build_claims(groups=groups), allowed_groups=["staff", "ops"]) == reason


def test_allowed_group() -> None:
    """One allowed group is enough; the claim may be nested."""
    claims = build_claims(realm_access={"roles": ["guest", "ops"]})
    changes = {"allowed_groups": ["staff", "ops"], "groups_claim": "realm_access.roles"}
    assert read(claims, **changes).principal.owner_id == ALICE


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({}, "no_scp"),
        ({"scope": "chat"}, "wrong_scope"),
        ({"scope": "chat embed2"}, "wrong_scope"),
        ({"scope": "chat\tembed"}, "wrong_scope"),
        ({"scope": 1, "scp": "chat embed"}, "invalid_scope"),
        ({"scp": ["chat", 1, "embed"]}, "invalid_scp"),
        ({"scope": "chat embed x"}, None),
        ({"scp": "embed chat"}, None),
        ({"scp": ["embed", "chat"]}, None),
    ],
)
def test_scopes(claims: dict[str, Any], reason: str | None) -> None:
    """All required scopes are needed, in one of the forms that providers use."""
    changes: dict[str, Any] = {"required_scopes": ["chat", "embed"]}
    if reason is None:
        assert read(build_claims(**claims), **changes).principal.owner_id == ALICE
    else:
        assert refuse(build_claims(**claims), **changes) == reason


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
_NAMES = ("iss", "aud", "exp", "nbf", "iat", "sub", "project", "tier", "models", "groups", "scope")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(_NAMES), _JSON))
def test_any_claims(changes: dict[str, Any]) -> None:
    """Any other JSON in the claims gives an identity or a refusal, and no other error."""
    claims = build_claims(project="a", models=["m"], groups=["staff"], scope="chat")
    changed = {
        "project_claim": "project",
        "service_class_claim": "tier",
        "models_claim": "models",
        "allowed_groups": ["staff"],
        "required_scopes": ["chat"],
    }
    try:
        identity = read({**claims, **changes}, **changed)
    except InvalidCredential:
        return
    assert len(identity.principal.project_id) <= 128
    assert all(isinstance(name, str) for name in identity.models or ())
