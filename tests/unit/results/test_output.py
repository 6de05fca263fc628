"""Files that are written: complete or not at all, and nothing else is lost."""

import os
import re
from pathlib import Path

import pytest

from maxgate.errors import ConfigurationError
from maxgate.results.output import check_distinct, check_writable, open_output


def write(path: Path, content: bytes = b"new") -> None:
    """Write a file."""
    with open_output(path) as file:
        file.write(content)


def test_link_keeps_its_place(tmp_path: Path) -> None:
    """A link still points to the file, which has the new content."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "latest").symlink_to("runs/a.json")
    write(tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert (tmp_path / "runs" / "a.json").read_bytes() == b"new"


def test_pipe_is_written_to(tmp_path: Path) -> None:
    """A pipe, as of /dev/stdout, or a device, such as /dev/null, is not replaced by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_writable(pipe)
    write(pipe)
    assert (os.read(reader, 9), pipe.is_fifo()) == (b"new", True)
    os.close(reader)
    assert [file.name for file in tmp_path.iterdir()] == ["pipe"]


def test_full_disk(tmp_path: Path) -> None:
    """A failed write leaves the earlier file and nothing else, and names the reason."""
    path = tmp_path / "a.json"
    write(path, b"old")
    with (
        pytest.raises(ConfigurationError, match=f"cannot write {path}: No space left on device"),
        open_output(path),
    ):
        raise OSError(28, "No space left on device")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a.json", b"old")]


@pytest.mark.parametrize("path", ["", ".", "..", "/"])
def test_folder(path: str) -> None:
    """A folder is refused before anything is written, also one without a name."""
    reason = f"cannot write {Path(path)}: it is a folder; give the name of a file"
    with pytest.raises(ConfigurationError, match=re.escape(reason)):
        write(Path(path))


def test_output_that_is_an_input(tmp_path: Path) -> None:
    """No file is written in place of an input or another output, under whatever name."""
    data = tmp_path / "data.jsonl"
    data.touch()
    (tmp_path / "link").symlink_to(data)
    new = tmp_path / "new.json"
    check_distinct([new, tmp_path / "b.csv", Path("/dev/null"), Path("/dev/null")], [data])
    for outputs, reason in (
        ([tmp_path / "link"], "link: this command reads it; choose another file"),
        ([new, tmp_path / "x" / ".." / "new.json"], "new.json: another output has the same name"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(reason)):
            check_distinct(outputs, [data])
