"""The form of API keys, and their hashes.

A key is `sk-mg-`, 32 random bytes in 43 characters and a checksum in 6: letters and digits only,
so that a double click selects it. The prefix and the checksum (CRC-32 of all that precedes it) let
scanners for secrets recognize keys, and the gateway refuse typing errors without a look-up.
"""

import hmac
import re
import secrets
import zlib
from typing import Final

PREFIX: Final = "sk-mg-"

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES: Final = 32
_RANDOM_LENGTH: Final = 43  # 62**43 > 2**256
_CHECKSUM_LENGTH: Final = 6  # 62**6 > 2**32
_LENGTH: Final = len(PREFIX) + _RANDOM_LENGTH + _CHECKSUM_LENGTH
_LIKE_KEY: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{20,}}")
_FORM: Final = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}")


def generate_key(seed: bytes | None = None) -> str:
    """Return a new key; `seed` are its 32 bytes if they are not to be random."""
    number = int.from_bytes(secrets.token_bytes(_RANDOM_BYTES) if seed is None else seed)
    body = PREFIX + _encode(number, _RANDOM_LENGTH)
    return body + _encode(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def is_well_formed(key: str) -> bool:
    """Whether the key has the form of keys and its checksum is right."""
    if len(key) != _LENGTH or _FORM.fullmatch(key) is None:
        return False
    body = key[:-_CHECKSUM_LENGTH]
    return _encode(zlib.crc32(body.encode()), _CHECKSUM_LENGTH) == key[-_CHECKSUM_LENGTH:]


def hash_key(key: str, pepper: bytes) -> bytes:
    """Return the HMAC-SHA256 of a key; keys are too long to guess, so a slow hash adds nothing."""
    return hmac.digest(pepper, key.encode(), "sha256")


def redact(key: str) -> str:
    """Return the beginning and the end of a key, which identify it to its owner."""
    return f"{key[: len(PREFIX) + 3]}...{key[-4:]}"


def redact_keys(text: str) -> str:
    """Redact the keys in a text, also those with a typing error."""
    return _LIKE_KEY.sub(lambda found: redact(found[0]), text) if PREFIX in text else text


def _encode(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits
