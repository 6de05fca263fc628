"""The control socket is private, and in another folder where state_dir does not allow it."""

import socket
from pathlib import Path

import pytest

from maxgate.control_plane.listener import control_socket, name_gateway


def test_place(tmp_path: Path) -> None:
    """The socket is in state_dir, usable by its owner only, and removed at the end."""
    with control_socket(tmp_path, "host-8000") as bound:
        assert bound is not None
        assert bound[1] == tmp_path / "gateways" / "host-8000.sock"
        assert bound[1].stat().st_mode & 0o777 == 0o600
    assert not bound[1].exists()


def test_stale(tmp_path: Path) -> None:
    """The socket of a gateway that was killed is replaced."""
    path = tmp_path / "gateways" / "host-8000.sock"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    with control_socket(tmp_path, "host-8000") as bound:
        assert bound is not None
        assert bound[1] == path


def test_in_use(tmp_path: Path) -> None:
    """Another gateway keeps its socket, on which this one does not intrude."""
    with control_socket(tmp_path, "host-8000") as first:
        with control_socket(tmp_path, "host-8000") as second:
            assert first is not None
            assert second is not None
            assert second[1] != first[1]
            assert second[1].parent.stat().st_mode & 0o777 == 0o700
        assert first[1].exists()
        assert not second[1].parent.exists()


@pytest.mark.parametrize("name", ["n" * 90, "ü" * 50])
def test_long_path(tmp_path: Path, name: str) -> None:
    """A path that is too long for a socket is replaced by a short one."""
    state_dir = tmp_path / name
    with control_socket(state_dir, name_gateway(8000)) as bound:
        assert bound is not None
        listening, path = bound
        assert tmp_path not in path.parents
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            listening.setblocking(True)
            listening.accept()[0].close()


def test_not_writable(tmp_path: Path) -> None:
    """A state_dir that cannot be made does not keep the gateway from running."""
    (tmp_path / "state").write_text("")
    with control_socket(tmp_path / "state", "host-8000") as bound:
        assert bound is not None
        assert bound[1].name == "parent.sock"
