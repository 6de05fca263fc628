"""Files in which `maxgate restart` finds running gateways."""

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path

import pytest

from maxgate.cli.restart import RestartFailed, choose_instance, wait_for_end
from maxgate.server.instances import Instance, InstanceFile, find_instances

GATEWAY = Instance(pid=100, port=8000, workers=[101, 102])


def test_running_gateways(tmp_path: Path) -> None:
    """A gateway is found, with its latest state, from its start to its end."""
    with InstanceFile(tmp_path, 8000) as file:
        file.write(GATEWAY)
        assert find_instances(tmp_path) == [GATEWAY]
        file.write(Instance(100, 8000, [103], restarts=1, error="a long reason" * 9))
        file.write(Instance(100, 8000, [103, 104], restarts=2))
        assert find_instances(tmp_path) == [Instance(100, 8000, [103, 104], restarts=2)]
    assert find_instances(tmp_path) == []


def test_killed_gateway(tmp_path: Path) -> None:
    """A file that was left behind is ignored, whichever process has its id now."""
    folder = tmp_path / "gateways"
    folder.mkdir()
    (folder / "8000.json").write_text(json.dumps(asdict(Instance(os.getpid(), 8000))))
    assert find_instances(tmp_path) == []


def test_other_host(tmp_path: Path) -> None:
    """Gateways of other containers that share the folder are ignored: their ids mean nothing."""
    with InstanceFile(tmp_path, 8000) as file:
        file.write(Instance(100, 8000, host=socket.gethostname() + "-2"))
        assert find_instances(tmp_path) == []


def test_second_gateway(tmp_path: Path) -> None:
    """A gateway on another address of the same port leaves the file alone."""
    with InstanceFile(tmp_path, 8000) as first:
        first.write(GATEWAY)
        with InstanceFile(tmp_path, 8000) as second:
            second.write(Instance(200, 8000))
        assert find_instances(tmp_path) == [GATEWAY]


def test_no_folder(tmp_path: Path) -> None:
    """Without a writable folder there is no file and no error."""
    (tmp_path / "file").touch()
    with InstanceFile(tmp_path / "file", 8000) as file:
        file.write(GATEWAY)
    assert find_instances(tmp_path / "file") == []


@pytest.mark.parametrize(
    ("ports", "message"),
    [
        ([], "no running gateway is known in /state; name its process id with --pid"),
        ([8000, 8001], "gateways run on the ports 8000, 8001; choose one with --port"),
    ],
)
def test_choice(ports: list[int], message: str) -> None:
    """Without one clear gateway, the error names the way out."""
    with pytest.raises(RestartFailed) as caught:
        choose_instance([Instance(1, port) for port in ports], Path("/state"))
    assert str(caught.value) == message


def test_end_of_a_restart() -> None:
    """A restart has ended when its count has grown; a file that is being written is no end."""
    ended = Instance(100, 8000, [103], restarts=1)
    states = [[], [GATEWAY], [], [ended]]
    assert wait_for_end(GATEWAY, lambda: states.pop(0)) == ended


def test_exit_during_a_restart() -> None:
    """A gateway that exits ends the wait."""
    with pytest.raises(RestartFailed, match="the gateway with process id 100 has exited"):
        wait_for_end(GATEWAY, list)
