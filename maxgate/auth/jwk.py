"""Public keys that verify the signatures of tokens, and the parser of key sets (RFC 7517)."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwa import JWSAlgModel
from joserfc.jwk import JWKRegistry, Key
from joserfc.jws import JWSRegistry

MAX_KEY_ID_LENGTH: Final = 256
MAX_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8192 + 1)
"""Shorter keys are weak, and longer ones make each verification expensive."""
# Tuples, because a value of a hostile document may have no hash.
_CURVE_TYPES: Final = ("EC", "OKP")
_CURVES: Final = ("P-256", "P-384", "P-521", "Ed25519")


class VerificationKey:
    """A public key; `algorithms` are those that it may verify.

    `fingerprint` is equal for keys with the same content. Keys are compared by identity.
    """

    __slots__ = ("_key", "algorithms", "fingerprint", "key_id")

    def __init__(
        self,
        key_id: str | None,
        key: Key,
        algorithms: Mapping[str, JWSAlgModel],
        fingerprint: bytes,
    ) -> None:
        self.key_id = key_id
        self.algorithms = algorithms
        self.fingerprint = fingerprint
        self._key = key

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether the signature is one of these bytes, by one of the key's algorithms."""
        try:
            return self.algorithms[algorithm].verify(signed, signature, self._key)
        except (JoseError, ValueError):
            return False


def read_keys(document: Any, algorithms: Sequence[str]) -> list[VerificationKey]:
    """Read the keys of a JWKS that are public, strong, and for one of the algorithms.

    All others are left out. Raises ValueError if it is no JWKS, or has more than MAX_KEYS.
    """
    try:
        entries = list(document["keys"])
    except (TypeError, KeyError):
        raise ValueError("not a JSON object with a list `keys`") from None
    if len(entries) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    keys = [_read_key(entry, algorithms) for entry in entries if _is_usable(entry)]
    return [key for key in keys if key is not None]


def _is_usable(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    key_id = entry.get("kid")
    is_named = key_id is None or (isinstance(key_id, str) and len(key_id) <= MAX_KEY_ID_LENGTH)
    is_for_signatures = entry.get("use", "sig") == "sig"
    # "d" is the private part: everyone could sign with this key.
    return is_named and is_for_signatures and "d" not in entry and _is_strong(entry)


def _is_strong(entry: dict[str, Any]) -> bool:
    key_type = entry.get("kty")
    if key_type in _CURVE_TYPES:
        return entry.get("crv") in _CURVES
    try:
        modulus = int.from_bytes(decode_base64(entry["n"]), "big")
    except (KeyError, TypeError, ValueError):
        return False
    return key_type == "RSA" and modulus.bit_length() in _RSA_BITS


def _read_key(entry: dict[str, Any], algorithms: Sequence[str]) -> VerificationKey | None:
    try:
        key = JWKRegistry.import_key(entry)
        key.check_key_op("verify")
        suitable = JWSRegistry.filter_algorithms(key, list(algorithms))
    except (
        JoseError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ):  # the library checks few types
        return None
    fingerprint = hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).digest()
    models = {model.name: model for model in suitable}
    return VerificationKey(entry.get("kid"), key, models, fingerprint) if models else None


def decode_base64(text: str) -> bytes:
    """Decode base64url without padding; raises ValueError unless the text is the canonical one.

    Other texts of the same bytes would be other tokens with the same signature.
    """
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text.encode():
        raise ValueError("not canonical base64url")
    return decoded
