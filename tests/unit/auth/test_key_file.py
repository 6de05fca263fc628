"""The file with keys is read as a whole or not at all, and changed without losing comments."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maxgate.auth.identity import Identity
from maxgate.auth.key_file import KeyEntry, parse_keys, read_key_file
from maxgate.auth.key_file_changes import add_entry, disable_entry
from maxgate.errors import ConfigurationError
from maxgate.generation.context import Principal

HASH = "hmac-sha256:" + "ab" * 32
OTHER = "hmac-sha256:" + "cd" * 32
FILE = Path("keys.yaml")


def parse(fields: str) -> list[KeyEntry]:
    """Parse a file with one entry, whose fields are in this flow mapping."""
    return parse_keys(f"keys:\n- {{id: a, hash: '{HASH}'{fields}}}\n", FILE)


def test_all_fields() -> None:
    """An entry describes the caller and its rights."""
    [entry] = parse(
        ", name: laptop, project: red, owner: ann, models: [m], networks: [10.0.0.0/8, '::1'],"
        " expires: 2027-01-31T12:00:00+02:00, service_class: flex, admin: true, disabled: true"
    )

    assert entry.build_identity() == Identity(
        Principal("red", "red", "ann", "a", "flex", "flex"),
        models=frozenset({"m"}),
        networks=("10.0.0.0/8", "::1"),
        expires_at=datetime(2027, 1, 31, 10, tzinfo=UTC).timestamp(),
        is_admin=True,
    )
    assert entry.disabled
    assert entry.digest == bytes.fromhex("ab" * 32)


def test_defaults() -> None:
    """An entry without rights has no limits but those of every caller, and is no admin."""
    [entry] = parse("")

    assert entry.build_identity() == Identity(
        Principal("default", "default", "a", "a", "default", "priority")
    )


@pytest.mark.parametrize("text", ["", "keys:\n", "keys: []\n", "keys:\n# - id: a\n"])
def test_empty(text: str) -> None:
    """A file may have no keys."""
    assert parse_keys(text, FILE) == []


def test_date() -> None:
    """A date means 00:00 UTC."""
    [entry] = parse(", expires: 2027-01-31")

    assert entry.expires == datetime(2027, 1, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (", model: [a]", "keys[0].model (key 'a'): unknown field; did you mean models?"),
        (", scope: a", "keys[0].scope (key 'a'): unknown field; known are id, hash, name,"),
        (", models: []", "keys[0].models (key 'a'): is empty; remove the field to set no limit"),
        (", models: ", "keys[0].models (key 'a'): is empty; remove the field to set no limit"),
        (", networks: ''", "keys[0].networks (key 'a'): is empty; remove the field to set no"),
        (", expires: ", "keys[0].expires (key 'a'): is empty; remove the field to set no limit"),
        (", networks: [10.0.0.1/8]", "10.0.0.1/8 has host bits set; write 10.0.0.0/8 or"),
        (", networks: [office]", "'office' does not appear to be an IPv4 or IPv6 network; write"),
        (", expires: soon", "'soon' is not a date or time; write 2027-01-31 or 2027-01-31T"),
        (", expires: 2027-02-30", "'2027-02-30' is not a date or time; write"),
        (", expires: 2027-01-31T10:00:00", "has no time zone; write 2027-01-31T10:00:00Z for UTC"),
        (", service_class: fast", "Input should be 'priority', 'default' or 'flex'"),
        (", project: a b", "keys[0].project (key 'a'): String should match pattern"),
        (", name: sk-mg-abc", "keys[0].name (key 'a'): must not hold a key"),
        (", id: b", "keys.yaml, line 2: 'id' twice"),
        (", [a]: b", "keys.yaml, line 2: a field without a name"),
        (", name: [a", "not valid YAML"),
    ],
)
def test_invalid_field(fields: str, message: str) -> None:
    """An error names file, entry, field and rule."""
    with pytest.raises(ConfigurationError) as caught:
        parse(fields)

    assert str(caught.value).startswith("keys.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "keys.yaml: must hold `keys:` and a list"),
        ("key: []", "keys.yaml: key: unknown field; did you mean keys?"),
        (
            "keys: [{id: a, hsh: x}]",
            "keys.yaml: keys[0].hsh (key 'a'): unknown field; did you mean",
        ),
        ("keys: 3", "keys.yaml: keys: Input should be a valid list"),
        ("keys: [3]", "keys.yaml: keys[0]: Input should be a valid dictionary"),
        (
            "keys: [{id: a, hash: sk-mg-secret}]",
            "keys.yaml: keys[0].hash (key 'a'): must be hmac-sha256: and 64 hexadecimal digits",
        ),
        (
            f"keys: [{{id: a, hash: '{HASH}'}}, {{id: a, hash: '{OTHER}'}}]",
            "keys.yaml: two keys have the id of 'a'",
        ),
        (
            f"keys: [{{id: a, hash: '{HASH}'}}, {{id: b, hash: '{HASH}'}}]",
            "keys.yaml: two keys have the hash of 'b'",
        ),
    ],
)
def test_invalid_file(text: str, message: str) -> None:
    """An invalid file has no keys at all, and errors never show a value that may be a key."""
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(text, FILE)

    assert str(caught.value).startswith(message)
    assert "secret" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """The error for a file that does not exist names the command that writes it."""
    with pytest.raises(
        ConfigurationError, match="does not exist; `maxgate keys create --file` writes it"
    ):
        read_key_file(tmp_path / "keys.yaml")


def test_changes(tmp_path: Path) -> None:
    """Keys are added and disabled in place; comments and order stay, and only the owner reads."""
    file = tmp_path / "keys.yaml"
    file.write_text(f"# ours\nkeys:\n- id: a  # Ann\n  hash: {HASH}\n# the end\n")

    add_entry(file, KeyEntry(id="b", hash=OTHER, name="x: #y", models=["m", "n"]))
    disable_entry(file, "a")

    assert file.read_text() == (
        f"# ours\nkeys:\n- id: a  # Ann\n  disabled: true\n  hash: {HASH}\n# the end\n"
        f"- id: b\n  hash: {OTHER}\n  name: 'x: #y'\n  models:\n  - m\n  - n\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "text",
    [
        f"keys: [{{id: a, hash: '{HASH}'}}]\n",
        f"keys:\n- disabled: false\n  id: a\n  hash: {HASH}\n",
        f"{{keys: [{{id: a, hash: '{HASH}'}}]}}\n",
        f'"keys":\n    -   "id": a\n        hash: {HASH}\n',
        f"keys:\n  - id: a\n    hash: {HASH}",
    ],
)
def test_other_styles(tmp_path: Path, text: str) -> None:
    """Files in every style of YAML are changed."""
    file = tmp_path / "keys.yaml"
    file.write_text(text)

    add_entry(file, KeyEntry(id="b", hash=OTHER))
    disable_entry(file, "a")

    assert [(entry.id, entry.disabled) for entry in read_key_file(file)] == [
        ("a", True),
        ("b", False),
    ]


def test_refused_changes(tmp_path: Path) -> None:
    """An id that is taken or unknown, and an invalid file, leave the file as it is."""
    file = tmp_path / "keys.yaml"
    add_entry(file, KeyEntry(id="a", hash=HASH))
    with pytest.raises(ConfigurationError, match="a key with the id 'a' exists already"):
        add_entry(file, KeyEntry(id="a", hash=OTHER))
    with pytest.raises(
        ConfigurationError, match="no key has the id 'b'; `maxgate keys list --file`"
    ):
        disable_entry(file, "b")
    assert [entry.id for entry in read_key_file(file)] == ["a"]
    file.write_text("keys: 3")
    with pytest.raises(ConfigurationError):
        add_entry(file, KeyEntry(id="b", hash=OTHER))
    assert file.read_text() == "keys: 3"


def test_link(tmp_path: Path) -> None:
    """A symbolic link stays one."""
    file, link = tmp_path / "real" / "keys.yaml", tmp_path / "keys.yaml"
    file.parent.mkdir()
    link.symlink_to(file)

    add_entry(link, KeyEntry(id="a", hash=HASH))

    assert link.is_symlink()
    assert [entry.id for entry in read_key_file(file)] == ["a"]
