"""The folder in which the workers of `uvicorn --workers N` share their counters.

`maxgate serve` makes a folder for its workers. Uvicorn's own supervisor does not, so its workers
agree on a name: the pid of the supervisor and a digest of the random key that multiprocessing
gives to all children of a process.
"""

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from multiprocessing import current_process, parent_process
from pathlib import Path
from typing import Final

import structlog

from maxgate.errors import ConfigurationError
from maxgate.telemetry.metrics_store import SUFFIX, is_running, make_folder

_PREFIX: Final = "maxgate-workers"
_ENDED: Final = ".ended"

_log = structlog.get_logger("telemetry")


def share_with_workers() -> Path | None:
    """Return the folder of this worker and its siblings, or None if uvicorn has not started it.

    Folders that killed workers have left behind are deleted.
    """
    parent, this = parent_process(), current_process()
    # Other programs may start several gateways, which must not be added up.
    starter = getattr(getattr(this, "_target", None), "__module__", "")
    if parent is None or parent.pid is None or starter != "uvicorn._subprocess":
        return None
    directory = Path(tempfile.gettempdir())
    _delete_stale(directory)
    digest = hashlib.blake2b(this.authkey, digest_size=8).hexdigest()
    return open_folder(directory / f"{_PREFIX}-{os.getuid()}-{parent.pid}-{digest}")


def open_folder(folder: Path) -> Path | None:
    """Create the folder if it does not exist; None, with a warning, if it cannot be used."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_private(folder)
        make_folder(folder)
    except (OSError, ConfigurationError) as error:
        _log.warning("metrics of the workers are not shared", error=str(error))
        return None
    return folder


def _check_private(folder: Path) -> None:
    # Others may create files in the directory for temporary files.
    status = folder.lstat()
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not is_private or status.st_uid != os.getuid():
        raise ConfigurationError(f"{folder} is open to other users")


def leave(folder: Path) -> None:
    """Note that this worker has ended; the last one deletes the folder."""
    with suppress(OSError):
        (folder / f"{os.getpid()}{_ENDED}").touch()
    workers = [path.stem for path in folder.glob(f"*{SUFFIX}")]
    if all((folder / f"{pid}{_ENDED}").exists() or not is_running(int(pid)) for pid in workers):
        shutil.rmtree(folder, ignore_errors=True)


def _delete_stale(directory: Path) -> None:
    for folder in directory.glob(f"{_PREFIX}-{os.getuid()}-*-*"):
        supervisor = folder.name.split("-")[-2]
        if supervisor.isdigit() and not is_running(int(supervisor)):
            shutil.rmtree(folder, ignore_errors=True)
