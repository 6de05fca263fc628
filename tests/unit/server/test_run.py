"""Process settings of the gateway."""

import json
import subprocess
import sys

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
    assert (young, older) == (20_000, [10, 10])
