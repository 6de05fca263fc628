"""Keys have a checksum, and only their HMAC is stored."""

import hashlib
import hmac
import re

import pytest

from maxgate.auth.api_key import generate_key, hash_key, is_well_formed, redact_keys


def test_form() -> None:
    """A key is a prefix and 49 letters and digits, and no two are equal."""
    keys = {generate_key() for _ in range(100)}

    assert len(keys) == 100
    for key in keys:
        assert re.fullmatch(r"sk-mg-[0-9A-Za-z]{49}", key)
        assert is_well_formed(key)


def test_known_key() -> None:
    """The checksum does not change between versions."""
    assert is_well_formed("sk-mg-5rhxym99hsyXxwZIJETAa20JOgYJz5WQIla0J8imOK40G8Ylb")


def test_typing_errors() -> None:
    """Every changed, missing or exchanged character is detected."""
    key = generate_key()
    wrong = [key[:at] + chr(ord(key[at]) ^ 1) + key[at + 1 :] for at in range(len(key))]
    wrong += [key[:at] + key[at + 1 :] for at in range(len(key))]
    wrong += [key[:at] + key[at + 1] + key[at] + key[at + 2 :] for at in range(len(key) - 1)]

    assert [one for one in wrong if one != key and is_well_formed(one)] == []


@pytest.mark.parametrize("end", ["\n", " ", "\0", "a", "\u0661"])
def test_other_text(end: str) -> None:
    """Nothing may follow a key."""
    assert not is_well_formed(generate_key() + end)


def test_hash() -> None:
    """The hash is HMAC-SHA256 with the pepper as its key."""
    expected = hmac.new(b"pepper", b"sk-mg-x", hashlib.sha256).digest()

    assert hash_key("sk-mg-x", b"pepper") == expected
    assert hash_key("sk-mg-x", b"other") != expected


def test_redaction() -> None:
    """Keys in a text are shortened, with typing errors as well; other texts stay as they are."""
    key = generate_key()
    short = f"{key[:9]}...{key[-4:]}"
    text = redact_keys(f"No key {key!r}, {key}x or sk-mg-abc...defg exists.")
    assert text == f"No key {short!r}, {key[:9]}...{key[-3:]}x or sk-mg-abc...defg exists."
