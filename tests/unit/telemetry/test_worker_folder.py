"""The folder that workers of another supervisor share."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from maxgate.telemetry.worker_folder import leave, open_folder, share_with_workers


def test_new_folder(tmp_path: Path) -> None:
    """A new folder is private, and every worker gets the same."""
    folder = tmp_path / "shared"
    assert [open_folder(folder) for _ in range(2)] == [folder, folder]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_unsafe_folder(tmp_path: Path) -> None:
    """A folder that other users can write to, and a link to one, are not used."""
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "private")
    with capture_logs() as logs:
        assert [open_folder(tmp_path / name) for name in ("open", "link")] == [None, None]
    assert [log["error"] for log in logs] == [
        f"{tmp_path / name} is open to other users" for name in ("open", "link")
    ]


def test_missing_directory(tmp_path: Path) -> None:
    """Without a directory for temporary files, nothing is shared."""
    with capture_logs() as logs:
        assert open_folder(tmp_path / "missing" / "shared") is None
    assert [log["event"] for log in logs] == ["metrics of the workers are not shared"]


def test_other_processes() -> None:
    """A process that uvicorn's supervisor has not started shares nothing."""
    assert share_with_workers() is None


@pytest.mark.parametrize(("other", "remains"), [(os.getppid(), True), (2**22 + 1, False)])
def test_leave(tmp_path: Path, other: int, remains: bool) -> None:
    """A worker that ends deletes the folder unless another one is running."""
    folder = tmp_path / "shared"
    folder.mkdir()
    for pid in (os.getpid(), other):
        (folder / f"{pid}.metrics").touch()
    leave(folder)
    assert folder.exists() is remains


def test_leave_together(tmp_path: Path) -> None:
    """Workers that have ended count as gone while their processes still run."""
    (tmp_path / f"{os.getppid()}.ended").touch()
    for pid in (os.getpid(), os.getppid()):
        (tmp_path / f"{pid}.metrics").touch()
    leave(tmp_path)
    assert not tmp_path.exists()
