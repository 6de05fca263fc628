"""Check folders, permissions, free disk space, model cards and key files."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from maxgate.auth.file_key_store import load_keys
from maxgate.auth.pepper import load_peppers
from maxgate.doctor.findings import Finding, Subject, count, error, ok, warning
from maxgate.errors import ConfigurationError
from maxgate.model_cards.loader import load_cards
from maxgate.stores.database import find_url

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"})
_OTHERS_READ: Final = stat.S_IRGRP | stat.S_IROTH
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MIN_FREE: Final = 256 * 1024**2
_MIN_FREE_FOR_MODELS: Final = 10 * 1024**3
"""Bytes of a compiled small model and its weights."""


async def check_state(subject: Subject) -> list[Finding]:
    """Check the folder of durable state: rights, file system and free space."""
    settings, path = subject.settings, subject.state_dir
    existing = _find_existing(path)
    if not os.access(existing, os.W_OK | os.X_OK):
        return [
            error(
                "state_not_writable",
                f"state_dir {path}: this user cannot write to {existing}",
                "choose another state_dir, or run: "
                f"sudo install -d -m 700 -o {os.geteuid()} {path}",
            )
        ]
    found = [*_check_file_system(subject, existing), *_check_space(subject, existing)]
    if existing == path and path.stat().st_mode & _OTHERS_WRITE:
        found.append(
            error(
                "state_open",
                f"state_dir {path}: other users can replace keys and databases in it",
                f"run: chmod go-w {path}",
            )
        )
    if subject.host.is_root():
        found.append(
            warning(
                "runs_as_root",
                "this user is root, and the gateway needs none of root's rights",
                "start the gateway as another user (User= of systemd, `user:` of Compose)",
            )
        )
    kind = "with a ledger" if settings.usage.enabled else "without a ledger"
    return found or [ok(f"state_dir {path}, {kind}")]


def _check_file_system(subject: Subject, existing: Path) -> Iterator[Finding]:
    settings, path = subject.settings, subject.state_dir
    kind = subject.host.find_file_system(existing.resolve())
    if kind in _IN_MEMORY and (settings.auth.has_keys or settings.usage.enabled):
        yield warning(
            "state_in_memory",
            f"state_dir {path} is on {kind}: keys, pepper and usage are lost at the next restart",
            "set state_dir to a folder on a disk, or mount a volume there",
        )
    uses_sqlite = settings.database.is_enabled and not settings.database.is_postgres
    if kind in _NETWORK and (uses_sqlite or settings.usage.enabled):
        yield error(
            "state_on_network",
            f"state_dir {path} is on {kind}, where SQLite and locks of files are not safe",
            "set state_dir to a local disk, and database.url to a PostgreSQL to share it",
        )


def _check_space(subject: Subject, existing: Path) -> Iterator[Finding]:
    usage, host = subject.settings.usage, subject.host
    free = host.measure_free_bytes(existing)
    if usage.enabled and free < usage.max_spool_bytes:
        yield warning(
            "little_space_for_ledger",
            f"state_dir {subject.state_dir} has {_format(free)} free, less than "
            f"usage.max_spool_bytes {_format(usage.max_spool_bytes)}",
            "free disk space, or lower usage.max_spool_bytes",
        )
    elif free < _MIN_FREE:
        yield warning(
            "little_space",
            f"state_dir {subject.state_dir} has {_format(free)} free",
            f"free disk space: at least {_format(_MIN_FREE)}",
        )
    cache = subject.settings.cache_dir.expanduser()
    free = host.measure_free_bytes(_find_existing(cache))
    if subject.settings.engine.mode != "none" and free < _MIN_FREE_FOR_MODELS:
        yield warning(
            "little_space_for_models",
            f"cache_dir {cache} has {_format(free)} free for prepared and compiled models",
            f"free disk space: at least {_format(_MIN_FREE_FOR_MODELS)}",
        )


def _format(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"


def _find_existing(path: Path) -> Path:
    """Return the path, or the closest folder above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


async def check_secrets(subject: Subject) -> list[Finding]:
    """Check that other users of the machine cannot read secrets or write key files."""
    files = list(_list_secret_files(subject))
    found = [
        warning(
            "secret_readable",
            f"{file} has {content} and is readable by other users (mode {_read_mode(file):o})",
            f"run: chmod 600 {file}",
        )
        for file, content in files
        if _read_mode(file) & _OTHERS_READ
    ]
    keys = subject.settings.auth.find_key_file(subject.settings.state_dir)
    if subject.settings.auth.has_keys and keys.is_file() and _read_mode(keys) & _OTHERS_WRITE:
        found.append(
            error(
                "keys_writable",
                f"{keys}: other users can add keys to it (mode {_read_mode(keys):o})",
                f"run: chmod go-w {keys}",
            )
        )
    return found or [ok(f"{count(len(files), 'file')} with secrets, readable by this user only")]


def _read_mode(file: Path) -> int:
    with suppress(OSError):
        return stat.S_IMODE(file.stat().st_mode)
    return 0


def _list_secret_files(subject: Subject) -> Iterator[tuple[Path, str]]:
    settings, secrets = subject.settings, subject.list_secrets()
    for file in subject.config_files:
        if _contains(file, secrets):
            yield file, "a secret"
    if settings.auth.has_keys and settings.auth.pepper_file is not None:
        yield settings.auth.pepper_file.expanduser(), "the pepper"
    if (
        settings.auth.has_keys
        and settings.database.is_enabled
        and not settings.database.is_postgres
    ):
        database = Path(find_url(settings.database, settings.state_dir).database or "")
        if database.exists():
            yield database, "the hashes of keys"
    key = subject.tls_folder / "tls.key"
    if key.exists():
        yield key, "the private key of the certificate"


def _contains(file: Path, secrets: Iterable[str]) -> bool:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError):
        return False
    return any(secret in text for secret in secrets)


async def check_keys(subject: Subject) -> list[Finding]:
    """Check the file of API keys and the pepper."""
    settings = subject.settings
    if not settings.auth.has_keys:
        return [ok("no API keys are used")]
    try:
        peppers = load_peppers(settings.auth, settings.state_dir, create=False)
        table = load_keys(
            settings.auth, settings.state_dir, is_optional=not settings.needs_key_file
        )
    except ConfigurationError as reason:
        message, _, remedy = str(reason).partition("; ")
        return [
            error("keys_unusable", message, remedy or "run: maxgate keys create --admin"),
        ]
    if settings.needs_key_file and not table.keys:
        return [
            warning(
                "no_keys",
                f"{settings.auth.find_key_file(settings.state_dir)} has no keys, so every request "
                "is refused",
                "run: maxgate keys create --admin",
            )
        ]
    return [ok(f"{count(len(table.keys), 'key')} in the file, {count(len(peppers), 'pepper')}")]


async def check_cards(subject: Subject) -> list[Finding]:
    """Check that every model card is valid."""
    try:
        cards = load_cards(subject.settings.cards, subject.settings.cache_dir)
    except ConfigurationError as reason:
        return [
            error(
                "card_invalid", str(reason), "correct the card; docs/model-cards.md has all fields"
            )
        ]
    return [ok(f"{len(cards)} model cards")]


async def check_metrics_folder(subject: Subject) -> list[Finding]:
    """Check the folder through which workers share their counters."""
    path = subject.settings.telemetry.metrics_dir
    if path is None:
        return [ok("workers share their counters in a temporary folder")]
    found = list(_find_folder_faults(subject, path.expanduser()))
    return found or [ok(f"telemetry.metrics_dir {path}")]


def _find_folder_faults(subject: Subject, path: Path) -> Iterator[Finding]:
    existing = _find_existing(path)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield error(
            "metrics_folder_unusable",
            f"telemetry.metrics_dir {path}: this user cannot write to a folder there",
            "choose another folder, or remove telemetry.metrics_dir",
        )
    elif subject.host.find_file_system(existing.resolve()) in _NETWORK:
        yield error(
            "metrics_folder_on_network",
            f"telemetry.metrics_dir {path} is on a network file system, where memory is not shared",
            "set telemetry.metrics_dir to a local folder, or remove it",
        )
