"""The settings of JSON Web Tokens."""

import re
from typing import Any, Final

import pytest
import yaml
from pydantic import ValidationError

from maxgate.auth.jwt_settings import JwtSettings
from maxgate.errors import ConfigurationError
from maxgate.settings import load_settings
from tests.conftest import ROOT
from tests.unit.auth.jwt_examples import AUDIENCE, build_settings

CA_FILE = ROOT / "tests" / "data" / "tls" / "ca.pem"


_VARIABLES: Final = {
    "MAXGATE_JWT__ISSUER": "https://a",
    "MAXGATE_JWT__AUDIENCES": "a",
    "MAXGATE_JWT__ALGORITHMS": "RS256",
}


def read_error(**values: Any) -> str:
    """Return the message of the error."""
    with pytest.raises(ValidationError) as failure:
        JwtSettings(**values)
    return failure.value.errors()[0]["msg"].removeprefix("Value error, ")


def test_lists() -> None:
    """Lists are comma-separated in variables."""
    settings = build_settings(audiences="a, b", algorithms="RS256,ES256", required_scopes='["x"]')
    assert settings.audiences == ["a", "b"]
    assert (settings.algorithms, settings.required_scopes) == (["RS256", "ES256"], ["x"])


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"audiences": ["a"]}, "audiences has no effect without jwt.issuer; set it too"),
        ({"leeway": 5}, "leeway has no effect without jwt.issuer; set it too"),
        (
            {"issuer": "https://a"},
            "jwt.issuer needs jwt.audiences and jwt.algorithms; set them too",
        ),
        (
            {"issuer": "https://a", "audiences": ["a"], "algorithms": []},
            "jwt.issuer needs jwt.algorithms; set them too",
        ),
    ],
)
def test_required(values: dict[str, Any], error: str) -> None:
    """Issuer, audiences and algorithms are set together, or none of them."""
    assert read_error(**values) == error


@pytest.mark.parametrize("name", ["HS256", "HS384", "HS512", "none", "None", "NONE"])
def test_refused_algorithms(name: str) -> None:
    """Tokens without a signature by a private key cannot be allowed."""
    error = read_error(issuer="https://a", audiences=[AUDIENCE], algorithms=["RS256", name])
    assert error.startswith(f"'{name}': tokens must be signed with a private key; use RS256, ")


@pytest.mark.parametrize(
    ("variables", "error"),
    [
        ({"MAXGATE_AUTH__MODE": "jwt"}, "setting auth.mode: jwt needs jwt.issuer, jwt.audiences"),
        ({"MAXGATE_AUTH__MODE": "keys+jwt"}, "setting auth.mode: keys+jwt needs jwt.issuer"),
        (_VARIABLES, "setting jwt.issuer has no effect without auth.mode jwt or keys+jwt"),
        (
            {**_VARIABLES, "MAXGATE_AUTH__MODE": "keys"},
            "setting jwt.issuer has no effect without auth.mode jwt or keys+jwt",
        ),
        *(
            (
                {
                    **_VARIABLES,
                    "MAXGATE_JWT__PROJECT_CLAIM": "team",
                    "MAXGATE_JWT__REQUIRE_KNOWN_PROJECT": "true",
                    **mode,
                },
                "setting jwt.require_known_project has no effect without a database of projects",
            )
            for mode in (
                {"MAXGATE_AUTH__MODE": "jwt"},
                {"MAXGATE_AUTH__MODE": "keys+jwt", "MAXGATE_DATABASE__URL": "none"},
            )
        ),
    ],
)
def test_modes(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], error: str) -> None:
    """The settings of tokens and a mode that uses them are set together."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert str(caught.value).startswith(error)


def test_unknown_algorithm() -> None:
    """Names of algorithms are exact."""
    error = read_error(issuer="https://a", audiences=[AUDIENCE], algorithms=["rs256"])
    assert error.startswith("'rs256': unknown algorithm; use RS256, ")


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example.com",
        "https://login.example.com:8443/realms/a/",
        "http://localhost:8080/realms/a",
        "http://127.0.0.1:8080",
        "http://[::1]:8080",
    ],
)
def test_issuer(url: str) -> None:
    """The issuer is an https URL, or http on this machine."""
    assert build_settings(issuer=url).issuer == url


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://login.example.com", "must start with https://"),
        ("http://127.0.0.1.example.com", "must start with https://"),
        ("http://localhost.example.com", "must start with https://"),
        ("http://10.0.0.1", "must start with https://"),
        ("ftp://localhost", "must start with https://"),
        ("login.example.com", "not a URL"),
        ("https://", "not a URL"),
        ("https://a:0", "not a URL"),
        ("https://a:port", "not a URL"),
        ("https://a b", "not a URL"),
        ("https://a\n", "not a URL"),
        ("https://ä", "not a URL"),
        ("https://user:secret@a", "a URL with credentials, ? or #; remove them"),
        ("https://a?b", "a URL with credentials, ? or #; remove them"),
        ("https://a#b", "a URL with credentials, ? or #; remove them"),
    ],
)
@pytest.mark.parametrize("name", ["issuer", "jwks_url"])
def test_invalid_url(name: str, url: str, error: str) -> None:
    """Keys that anyone on the network could replace are refused."""
    values = {"issuer": "https://a", "audiences": ["a"], "algorithms": ["RS256"], name: url}
    assert read_error(**values).startswith(error)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (
            {"require_known_project": True},
            "require_known_project has no effect without jwt.project_claim; set it too",
        ),
        ({"groups_claim": "roles"}, "groups_claim has no effect without jwt.allowed_groups"),
        ({"max_stale": 299}, "max_stale is less than refresh_interval"),
        ({"ca_file": "/none.pem"}, "ca_file '/none.pem': No such file or directory"),
        ({"project_claim": "a b"}, "String should match pattern"),
        ({"user_claim": ""}, "the value is empty"),
        ({"audiences": ["a", ""]}, "the list has an empty item; remove it"),
    ],
)
def test_invalid(changes: dict[str, Any], error: str) -> None:
    """A setting without effect, or without meaning, is an error."""
    required = {"issuer": "https://a", "audiences": ["a"], "algorithms": ["RS256"]}
    assert read_error(**{**required, **changes}).startswith(error)


def test_examples() -> None:
    """The examples in docs/jwt.md are valid."""
    examples = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "jwt.md").read_text(), re.DOTALL)
    issuers = [JwtSettings(**yaml.safe_load(example)["jwt"]).issuer for example in examples]
    assert len(issuers) == 6


def test_ca_file() -> None:
    """The provider may have a private CA."""
    assert build_settings(ca_file=CA_FILE).ca_file == CA_FILE
