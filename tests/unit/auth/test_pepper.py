"""The pepper comes from settings, a file or `state_dir`."""

import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from maxgate.auth.pepper import load_peppers
from maxgate.auth.settings import AuthSettings
from maxgate.errors import ConfigurationError
from tests.fakes.api_keys import PEPPER

OTHER = "f" * 32


def test_generated(tmp_path: Path) -> None:
    """A generated pepper is readable by its owner only, and stays."""
    state_dir = tmp_path / "new" / "state"
    assert load_peppers(AuthSettings(), state_dir, create=False) == []
    old = os.umask(0)
    try:
        [pepper] = load_peppers(AuthSettings(), state_dir, create=True)
    finally:
        os.umask(old)

    file = state_dir / "pepper"
    assert re.fullmatch(rb"[0-9a-f]{64}", pepper)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    assert list(state_dir.iterdir()) == [file]
    assert load_peppers(AuthSettings(), state_dir, create=True) == [pepper]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_readable_by_others(tmp_path: Path, mode: int) -> None:
    """A generated pepper that others may read or write is refused, with the way out."""
    load_peppers(AuthSettings(), tmp_path, create=True)
    (tmp_path / "pepper").chmod(mode)

    with pytest.raises(ConfigurationError, match="other users may read or write it; run: chmod"):
        load_peppers(AuthSettings(), tmp_path, create=False)


def test_settings(tmp_path: Path) -> None:
    """Peppers of settings keep their order, and no file is written."""
    settings = AuthSettings(mode="keys", pepper=[OTHER, PEPPER])  # type: ignore[list-item]

    assert load_peppers(settings, tmp_path, create=True) == [OTHER.encode(), PEPPER.encode()]
    assert list(tmp_path.iterdir()) == []


def test_file(tmp_path: Path) -> None:
    """`pepper_file` has one pepper per line; files of secrets may be readable by groups."""
    file = tmp_path / "secret"
    file.write_text(f"{OTHER}\n{PEPPER}\n")
    file.chmod(0o444)
    settings = AuthSettings(mode="keys", pepper_file=file)

    assert load_peppers(settings, tmp_path, create=True) == [OTHER.encode(), PEPPER.encode()]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"secret", "shorter than 32 characters; generate one with `openssl rand -hex 32`"),
        (b"\xff" * 32, "not UTF-8 text"),
        (None, "No such file or directory"),
    ],
)
def test_invalid_file(tmp_path: Path, content: bytes | None, message: str) -> None:
    """An error names the setting, the file and the rule, never the value."""
    file = tmp_path / "pepper"
    if content is not None:
        file.write_bytes(content)
    settings = AuthSettings(mode="keys", pepper_file=file)

    with pytest.raises(ConfigurationError) as caught:
        load_peppers(settings, tmp_path, create=True)

    assert str(caught.value) == f"setting auth.pepper_file: {file}: {message}"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pepper": ["secret"]}, "shorter than 32 characters"),
        ({"pepper": [PEPPER], "pepper_file": "x"}, "both pepper and pepper_file are set"),
        ({"metrics_key": "secret"}, "shorter than 32 characters"),
        ({"metrics_key": f"{PEPPER} 1"}, "characters that no header can hold"),
        ({"mode": "none", "metrics_key": PEPPER}, "metrics_key has no effect without auth.mode"),
        ({"mode": "none", "open_metrics": True}, "open_metrics has no effect without auth.mode"),
        ({"mode": None, "keys_file": "x"}, "keys_file has no effect without auth.mode keys"),
        ({"mode": "jwt2"}, "Input should be 'none'"),
    ],
)
def test_invalid_settings(fields: dict[str, Any], message: str) -> None:
    """Settings that are too weak or have no effect are errors that do not show secrets."""
    with pytest.raises(ValidationError) as caught:
        AuthSettings.model_validate({"mode": "keys", **fields})

    [error] = caught.value.errors(include_input=False)
    assert message in error["msg"]
    assert PEPPER not in error["msg"]


def test_hidden() -> None:
    """Neither the text of settings nor that of a change shows a pepper."""
    settings = AuthSettings(mode="keys", pepper=[PEPPER])  # type: ignore[list-item]

    assert PEPPER not in f"{settings!r} {settings.pepper} {', '.join(map(str, settings.pepper))}"
