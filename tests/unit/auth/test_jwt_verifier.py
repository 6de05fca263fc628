"""The verifier of JSON Web Tokens, and attacks on it."""

import hmac
import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.util import urlsafe_b64encode

from maxgate.auth.identity import InvalidCredential
from maxgate.auth.jwt_settings import ALGORITHMS
from maxgate.auth.jwt_verifier import MAX_TOKEN_LENGTH
from tests.fakes.clock import FakeClock
from tests.fakes.oidc_provider import DISCOVERY, ISSUER, OidcProvider, encode_json, generate, sign
from tests.unit.auth.jwt_examples import (
    AUDIENCE,
    NOW,
    build_claims,
    refuse,
    verify,
    verifying,
)

HEADER = {"alg": "ES256", "typ": "JWT", "kid": "key-1"}
BASE64 = string.ascii_letters + string.digits + "-_"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_algorithms(algorithm: str) -> None:
    """Every algorithm that the settings may allow verifies a token."""
    provider = OidcProvider(algorithm=algorithm)
    identity = await verify(provider, provider.sign(build_claims()), algorithms=[algorithm])
    assert identity.principal.owner_id.startswith("user:")


@pytest.mark.parametrize(
    ("credential", "is_token"),
    [(OidcProvider().sign({}), True), ("sk-mg-abc", False), ("", False), ("a.b.c", False)],
)
async def test_accepts(credential: str, *, is_token: bool) -> None:
    """Tokens are told from keys by how they begin."""
    async with verifying(OidcProvider()) as verifier:
        assert verifier.accepts(credential) is is_token


@pytest.mark.parametrize("token_type", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_types(token_type: str | None) -> None:
    """ID tokens and access tokens are accepted, also without a type."""
    header = {key: value for key, value in {**HEADER, "typ": token_type}.items() if value}
    provider = OidcProvider()
    token = sign(header, build_claims(), generate("ES256"), "ES256")
    assert (await verify(provider, token)).expires_at == int(NOW) + 3600 + 30


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"alg": "none"}, "wrong_algorithm"),
        ({"alg": "None"}, "wrong_algorithm"),
        ({"alg": "HS256"}, "wrong_algorithm"),
        ({"alg": "RS256"}, "wrong_algorithm"),
        ({"alg": "ES256K"}, "wrong_algorithm"),
        ({"alg": "es256"}, "wrong_algorithm"),
        ({"alg": ""}, "wrong_algorithm"),
        ({"alg": None}, "wrong_algorithm"),
        ({"alg": ["ES256"]}, "wrong_algorithm"),
        ({"typ": "dpop+jwt"}, "wrong_type"),
        ({"typ": "logout+jwt"}, "wrong_type"),
        ({"typ": 1}, "wrong_type"),
        ({"kid": "../../../dev/null"}, "unknown_key"),
        ({"kid": "key-1' OR '1'='1"}, "unknown_key"),
        ({"kid": "http://evil.example.com/key"}, "unknown_key"),
        ({"kid": "key-1\r\nx: y"}, "unknown_key"),
        ({"kid": "KEY-1"}, "unknown_key"),
        ({"kid": ""}, "malformed"),
        ({"kid": 1}, "malformed"),
        ({"kid": ["key-1"]}, "malformed"),
        ({"kid": {"$ne": ""}}, "malformed"),
        ({"kid": "k" * 257}, "malformed"),
        ({"crit": ["exp"]}, "unsupported_header"),
        ({"crit": []}, "unsupported_header"),
        ({"b64": False, "crit": ["b64"]}, "unsupported_header"),
        ({"b64": False}, "unsupported_header"),
        ({"b64": True}, "unsupported_header"),
        ({"cty": "JWT"}, "unsupported_header"),
        ({"zip": "DEF"}, "unsupported_header"),
        ({"enc": "A256GCM"}, "unsupported_header"),
    ],
)
async def test_header(header: dict[str, Any], reason: str) -> None:
    """Headers that would change how a token is verified are refused, although signed."""
    provider = OidcProvider()
    assert await refuse(provider, provider.sign(build_claims(), header=header)) == reason


@pytest.mark.parametrize("algorithm", ["none", "HS256", "RS256"])
async def test_no_fetch(algorithm: str) -> None:
    """An algorithm that is not allowed is refused before keys are fetched for it."""
    provider = OidcProvider()
    token = provider.sign(build_claims(), header={"alg": algorithm, "kid": "random"})
    assert await refuse(provider, token) == "wrong_algorithm"
    assert provider.requests == []


async def test_attackers_key() -> None:
    """Keys in the header, or at its URLs, do not verify a token, and no URL is fetched."""
    provider = OidcProvider()
    key = generate("ES256", 99)
    header = {
        **HEADER,
        "jku": "https://evil.example.com/jwks",
        "jwk": key.as_dict(private=False),
        "x5u": "https://evil.example.com/certificate",
        "x5c": ["MIIB"],
    }
    assert await refuse(provider, sign(header, build_claims(), key, "ES256")) == "wrong_signature"
    assert provider.requests == [ISSUER + DISCOVERY, ISSUER + "/jwks"]


async def test_named_keys_have_no_effect() -> None:
    """A token of the provider may name keys in its header."""
    provider = OidcProvider()
    header = {"jku": "https://evil.example.com/jwks", "x5t": "abc", "nonce": "other"}
    identity = await verify(provider, provider.sign(build_claims(), header=header))
    assert identity.models is None


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
async def test_public_key_as_secret(algorithm: str, form: str) -> None:
    """Tokens signed with the public key as a secret are refused."""
    provider = OidcProvider(algorithm="RS256")
    key = generate("RS256")
    public = {
        "pem": key.as_bytes(encoding="PEM"),
        "der": key.as_bytes(encoding="DER"),
        "jwk": json.dumps(key.as_dict(private=False)).encode(),
    }[form]
    signed = f"{encode_json({**HEADER, 'alg': algorithm})}.{encode_json(build_claims())}"
    signature = hmac.new(public, signed.encode(), f"sha{algorithm[2:]}").digest()
    token = f"{signed}.{urlsafe_b64encode(signature).decode()}"
    assert await refuse(provider, token, algorithms=["RS256"]) == "wrong_algorithm"


@pytest.mark.parametrize(
    ("published", "used"), [("RS256", "PS256"), ("RS256", "RS512"), ("RS256", "ES256")]
)
async def test_algorithm_of_key(published: str, used: str) -> None:
    """A key verifies no other algorithm than its own, although the settings allow both."""
    provider = OidcProvider(algorithm=published)
    key = generate(used)
    token = sign({**HEADER, "alg": used}, build_claims(), key, used)
    assert await refuse(provider, token, algorithms=[published, used]) == "wrong_algorithm"


def change_part(token: str, number: int, part: str) -> str:
    """Replace one of the three parts of a token."""
    parts = token.split(".")
    parts[number] = part
    return ".".join(parts)


@pytest.mark.parametrize(
    ("number", "part", "reason"),
    [
        (0, "", "malformed"),
        (0, encode_json("[]"), "malformed"),
        (0, encode_json("null"), "malformed"),
        (0, encode_json('{"alg":"none","alg":"ES256","kid":"key-1"}'), "malformed"),
        (0, encode_json('{"alg":"ES256","kid":"key-1","x":NaN}'), "malformed"),
        (0, encode_json('{"a":' * 2000), "malformed"),
        (0, encode_json("[" * 5000 + "]" * 5000), "malformed"),
        (0, encode_json("9" * 5000), "malformed"),
        (0, encode_json("\ufeff{}"), "malformed"),
        (0, encode_json(HEADER) + "=", "malformed"),
        (0, encode_json(HEADER) + "\n", "malformed"),
        (0, "eyJ%00", "malformed"),
        (0, "é", "malformed"),
        (1, "", "wrong_signature"),
        (1, encode_json(build_claims(sub="bob")), "wrong_signature"),
        (2, "", "wrong_signature"),
        (2, "AAAA", "wrong_signature"),
        (2, "A" * 86, "wrong_signature"),
        (2, "A" * 85 + "B", "malformed"),
        (2, "A" * 86 + ".x", "malformed"),
        (2, "AAAA.x.x", "malformed"),
        (2, "*", "malformed"),
    ],
)
async def test_damaged_token(number: int, part: str, reason: str) -> None:
    """Every damaged part is refused, with the first thing that is wrong."""
    provider = OidcProvider()
    token = change_part(provider.sign(build_claims()), number, part)
    assert await refuse(provider, token) == reason


@pytest.mark.parametrize("token", ["eyJ", "eyJhbGciOiJub25lIn0..", "eyJ.", "", "....", "a.b"])
async def test_no_token(token: str) -> None:
    """Texts that are no tokens are refused."""
    assert await refuse(OidcProvider(), token) in {"malformed", "wrong_algorithm"}


@pytest.mark.parametrize(
    "claims",
    [
        '{"iss":"a","iss":"b"}',
        '{"exp":NaN}',
        '{"exp":Infinity}',
        "[]",
        '"text"',
        "null",
        "",
        "{" * 6000,
        sign(HEADER, build_claims(), generate("ES256"), "ES256"),
    ],
)
async def test_signed_claims(claims: str) -> None:
    """Claims that are no plain JSON object, or a nested token, are refused although signed."""
    token = sign(HEADER, claims, generate("ES256"), "ES256")
    assert await refuse(OidcProvider(), token) == "malformed"


async def test_length() -> None:
    """A token of the maximum length is verified, and a longer one is not parsed."""
    provider = OidcProvider()
    claims = build_claims(fill="")
    missing = MAX_TOKEN_LENGTH - len(provider.sign(claims))
    token = provider.sign({**claims, "fill": "x" * (missing * 3 // 4 - 2)})
    assert MAX_TOKEN_LENGTH - 8 < len(token) <= MAX_TOKEN_LENGTH
    await verify(provider, token)
    requests = list(provider.requests)
    assert await refuse(provider, "eyJ" * MAX_TOKEN_LENGTH) == "too_long"
    assert provider.requests == requests


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
async def test_mutations(data: st.DataObject) -> None:
    """A token with any other, additional or missing character is refused, also a cached one."""
    provider = OidcProvider()
    token = provider.sign(build_claims())
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from(BASE64 + ".=+/ \n\0é"))
    kind = data.draw(st.sampled_from(["replace", "insert", "delete", "truncate", "append"]))
    changed = {
        "replace": token[:place] + character + token[place + 1 :],
        "insert": token[:place] + character + token[place:],
        "delete": token[:place] + token[place + 1 :],
        "truncate": token[:place],
        "append": token + character,
    }[kind]
    async with verifying(provider) as verifier:
        await verifier.verify(token)
        if changed != token:
            with pytest.raises(InvalidCredential):
                await verifier.verify(changed)


async def test_signed_only_once() -> None:
    """A verified token is remembered, and only until it expires."""
    provider, clock = OidcProvider(), FakeClock()
    token = provider.sign(build_claims(exp=int(NOW) + 60))
    async with verifying(provider, clock) as verifier:
        identity = await verifier.verify(token)
        assert await verifier.verify(token) is identity
        clock.advance(89)
        assert await verifier.verify(token) is identity
        clock.advance(1)
        with pytest.raises(InvalidCredential) as refusal:
            await verifier.verify(token)
        assert refusal.value.reason == "expired"
        assert verifier._cache == {}


async def test_same_beginning() -> None:
    """A token with the first and last characters of a verified one is not taken for it."""
    provider = OidcProvider()
    token = provider.sign(build_claims())
    header, claims, signature = token.split(".")
    other = f"{header}.{claims[:-40]}{encode_json(build_claims(sub='bob'))[-40:]}.{signature}"
    async with verifying(provider) as verifier:
        await verifier.verify(token)
        with pytest.raises(InvalidCredential):
            await verifier.verify(other)


async def test_cache_is_bounded() -> None:
    """The least recently used tokens are forgotten, and nothing keeps a token itself."""
    provider = OidcProvider()
    tokens = [provider.sign(build_claims(sub=name)) for name in ("a", "b", "c")]
    async with verifying(provider, cache_size=2) as verifier:
        first = await verifier.verify(tokens[0])
        second = await verifier.verify(tokens[1])
        assert await verifier.verify(tokens[0]) is first
        await verifier.verify(tokens[2])
        assert await verifier.verify(tokens[0]) is first
        assert await verifier.verify(tokens[1]) is not second
        assert not any(part in repr(vars(verifier)) for part in tokens[0].split("."))


async def test_withdrawn_key() -> None:
    """Tokens of a key that is withdrawn are refused after the next refresh, also cached ones."""
    provider, clock = OidcProvider(), FakeClock()
    provider.add_key("key-2")
    old, new = (provider.sign(build_claims(), key_id) for key_id in ("key-1", "key-2"))
    async with verifying(provider, clock) as verifier:
        await verifier.verify(old)
        kept = await verifier.verify(new)
        del provider.keys["key-1"]
        clock.advance(10)
        with pytest.raises(InvalidCredential):  # causes a fetch
            await verifier.verify(provider.sign(build_claims(), header={"kid": "none"}))
        with pytest.raises(InvalidCredential) as refusal:
            await verifier.verify(old)
        assert refusal.value.reason == "unknown_key"
        assert await verifier.verify(new) is kept


async def test_same_id_for_another_key() -> None:
    """Tokens of a key are refused once its id belongs to another key."""
    provider, clock = OidcProvider(), FakeClock()
    token = provider.sign(build_claims())
    async with verifying(provider, clock) as verifier:
        await verifier.verify(token)
        provider.keys["key-1"] = "ES256", generate("ES256", 7)
        clock.advance(10)
        with pytest.raises(InvalidCredential):
            await verifier.verify(provider.sign(build_claims(), header={"kid": "none"}))
        with pytest.raises(InvalidCredential) as refusal:
            await verifier.verify(token)
        assert refusal.value.reason == "wrong_signature"


async def test_audience_of_another_service() -> None:
    """A token that the same provider made for another service is refused."""
    provider = OidcProvider()
    token = provider.sign(build_claims(aud="https://other.example.com"))
    assert await refuse(provider, token) == "wrong_audience"
    assert await refuse(provider, token, audiences=[AUDIENCE, "x"]) == "wrong_audience"
