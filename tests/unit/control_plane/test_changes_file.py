"""engines.yaml is replaced as a whole, keeps other gateways, and reports what is wrong in it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maxgate.control_plane.changes import EngineChanges, EngineOverride
from maxgate.control_plane.changes_file import ChangesFile
from maxgate.control_plane.errors import ChangesNotSaved
from maxgate.errors import ConfigurationError
from maxgate.upstream.settings import ReplicaSettings

ENGINE = ReplicaSettings(url="http://user:secret@a:8080")
CHANGES = EngineChanges(
    added=[ENGINE],
    removed=["b"],
    drained=["c"],
    changed={"c": EngineOverride(max_concurrency=None)},
)
ENDLESS_WRITER = """
import sys
from pathlib import Path
from maxgate.control_plane.changes import EngineChanges
from maxgate.control_plane.changes_file import ChangesFile

file = ChangesFile(Path(sys.argv[1]), "a-8000")
print("ready", flush=True)
while True:
    file.save(EngineChanges(drained=["x" * 50] * 2000))
    file.save(EngineChanges(removed=["y"]))
"""


def test_round_trip(tmp_path: Path) -> None:
    """Saved changes are loaded again; the file is readable for its owner only."""
    file = ChangesFile(tmp_path / "state", "a-8000")
    file.save(CHANGES)
    assert file.load() == CHANGES
    path = tmp_path / "state" / "engines.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == ["engines.lock", "engines.yaml"]


def test_several_gateways(tmp_path: Path) -> None:
    """Gateways on other hosts and ports keep their changes."""
    first, second = ChangesFile(tmp_path, "a-8000"), ChangesFile(tmp_path, "b-8000")
    first.save(CHANGES)
    second.save(EngineChanges(drained=["d"]))
    first.save(EngineChanges())
    assert (first.load(), second.load()) == (EngineChanges(), EngineChanges(drained=["d"]))


def test_no_file(tmp_path: Path) -> None:
    """Without a file, there are no changes, and none is written."""
    assert ChangesFile(tmp_path / "none", "a-8000").load() == EngineChanges()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("gateways: [", ", line 1: not valid YAML"),
        ("- a", ": must hold `gateways:`"),
        ("engines: {}", ": must hold `gateways:`"),
        (
            "gateways: {a-8000: {drained: c}}",
            ": gateways.a-8000.drained: Input should be a valid li",
        ),
        ("gateways: {a-8000: {added: [5]}}", ": gateways.a-8000.added.0: Input should be a URL"),
        ("gateways: {a-8000: {removd: []}}", ": gateways.a-8000.removd: Extra inputs are not"),
    ],
)
def test_invalid(tmp_path: Path, content: str, rule: str) -> None:
    """The error names file, field and rule; changes are refused rather than lost."""
    path = tmp_path / "engines.yaml"
    path.write_text(content)
    file = ChangesFile(tmp_path, "a-8000")
    with pytest.raises(ConfigurationError) as caught:
        file.load()
    assert str(caught.value).startswith(f"{path}{rule}")
    if "a-8000" not in content:
        with pytest.raises(ChangesNotSaved):
            file.save(CHANGES)
        assert path.read_text() == content


def test_no_folder(tmp_path: Path) -> None:
    """A folder that cannot be made is named in the error."""
    (tmp_path / "state").write_text("")
    with pytest.raises(ChangesNotSaved, match=r"state.*: .*exists"):
        ChangesFile(tmp_path / "state", "a-8000").save(CHANGES)


def test_killed_writer(tmp_path: Path) -> None:
    """A process that is killed while it writes leaves the old changes or the new ones."""
    file = ChangesFile(tmp_path, "a-8000")
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", ENDLESS_WRITER, str(tmp_path)], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            while not (tmp_path / "engines.yaml").exists():
                pass
            process.send_signal(signal.SIGKILL)
        changes = file.load()
        assert changes in (EngineChanges(drained=["x" * 50] * 2000), EngineChanges(removed=["y"]))
    file.save(CHANGES)
    assert file.load() == CHANGES
