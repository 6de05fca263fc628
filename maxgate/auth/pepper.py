"""The secrets that hashes of API keys need, apart from the keys themselves.

Whoever reads the key file can test guesses only with the pepper. It has no other purpose.
"""

import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from maxgate.auth.settings import AuthSettings, check_pepper
from maxgate.errors import ConfigurationError

_FILE_NAME: Final = "pepper"
_FINGERPRINT_TEXT: Final = b"fingerprint of a pepper"  # no key begins like this
_READABLE_BY_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_peppers(settings: AuthSettings, state_dir: Path, *, create: bool) -> Sequence[bytes]:
    """Return the peppers, the one that signs first.

    `create`: generate the one in `state_dir` if it does not exist. Otherwise, the result is then
    empty.

    Raises ConfigurationError for a file that is invalid or that other users may read.
    """
    if settings.pepper:
        return [pepper.get_secret_value().encode() for pepper in settings.pepper]
    if settings.pepper_file is not None:
        return _read_file(settings.pepper_file.expanduser(), "setting auth.pepper_file: ")
    path = state_dir.expanduser() / _FILE_NAME
    try:
        if create and not path.exists():
            _generate(path)
        if not path.exists():
            return []
        if path.stat().st_mode & _READABLE_BY_OTHERS:
            raise ConfigurationError(
                f"{path}: other users may read or write it; run: chmod 600 {path}"
            )
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    return _read_file(path)


def fingerprint_pepper(pepper: bytes) -> bytes:
    """Return the HMAC of a constant, which identifies a pepper and does not reveal it."""
    return hmac.digest(pepper, _FINGERPRINT_TEXT, "sha256")


def name_source(settings: AuthSettings, state_dir: Path) -> str:
    """Return the setting or the file that the peppers come from."""
    if settings.pepper:
        return "setting auth.pepper"
    if settings.pepper_file is not None:
        return f"setting auth.pepper_file ({settings.pepper_file})"
    return str(state_dir.expanduser() / _FILE_NAME)


def _read_file(path: Path, prefix: str = "") -> list[bytes]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise ConfigurationError(f"{prefix}{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{prefix}{path}: not UTF-8 text") from None
    if not lines:
        raise ConfigurationError(f"{prefix}{path}: the file is empty")
    for line in lines:
        try:
            check_pepper(line)
        except ValueError as error:
            raise ConfigurationError(f"{prefix}{path}: {error}") from None
    return [line.encode() for line in lines]


def _generate(path: Path) -> None:
    """Create the file as a whole; one that another process creates meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".pepper-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secrets.token_hex(32)}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(name)
        except FileExistsError:
            return
    finally:
        Path(name).unlink()
