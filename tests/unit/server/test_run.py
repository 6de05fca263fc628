"""Process settings of the gateway."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maxgate.server.run import is_root

_REPORT = """
import gc, json
from maxgate.server import run
before = len(gc.get_objects())
run.tune_process()
print(json.dumps([before, gc.get_freeze_count(), len(gc.get_objects()), gc.get_threshold()]))
"""


def test_tune_process() -> None:
    """Startup objects are frozen, and the garbage collector runs less often."""
    # In a process of its own, because other tests must not run with these settings.
    done = subprocess.run(
        [sys.executable, "-c", _REPORT], capture_output=True, text=True, check=True
    )
    before, frozen, left, (young, *older) = json.loads(done.stdout)
    assert frozen > before * 0.8
    assert left < 100
    assert (young, older) == (50_000, [10, 10])


@pytest.mark.parametrize(
    ("uid", "uid_map", "expected"),
    [
        (0, "         0          0 4294967295\n", True),
        (0, "         0       1000          1\n", False),
        (1000, "         0          0 4294967295\n", False),
        (0, None, True),
    ],
)
def test_root(uid: int, uid_map: str | None, expected: bool, tmp_path: Path) -> None:
    """Root of a user namespace, as in rootless containers, has no rights outside of it."""
    path = tmp_path / "uid_map"
    if uid_map is not None:
        path.write_text(uid_map)
    assert is_root(uid, path) == expected
