"""wrk, a load source in C: closed loop, as fast as the connections go."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).parent / "post.lua"
_RESULT = "RESULT "


@dataclass(frozen=True)
class WrkResult:
    """`refused` were answered with a status of 400 or more, `broken` not at all."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_us: int
    p99_us: int


def parse(output: str) -> WrkResult:
    """What post.lua printed at the end. Raises ValueError where it did not."""
    for line in output.splitlines():
        if line.startswith(_RESULT):
            return WrkResult(**json.loads(line.removeprefix(_RESULT)))
    raise ValueError(f"no result in wrk's output: {output[-300:]!r}")


def run(
    url: str, template: Path, *, seconds: float, connections: int, headers: Mapping[str, str]
) -> WrkResult:
    """Load `url` from this process's core."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is needed: apt-get install wrk")
    flags = [f"-H{name}: {value}" for name, value in headers.items()]
    command = [
        *(program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"),
        *("-s", str(_SCRIPT), *flags, url, "--", str(template)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    return parse(done.stdout)
