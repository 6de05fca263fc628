"""Run wrk, a closed-loop load generator written in C."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parent / "wrk_requests.lua"
_RESULT = "RESULT "


@dataclass(frozen=True)
class WrkResult:
    """Requests with a response, and errors.

    `error_responses` have a status of 400 or more, `socket_errors` no response at all.
    """

    requests: int
    seconds: float
    error_responses: int
    socket_errors: int
    p50_us: int
    p99_us: int


def parse_output(output: str) -> WrkResult:
    """Parse the result printed by wrk_requests.lua. Raises ValueError if there is none."""
    for line in output.splitlines():
        if line.startswith(_RESULT):
            return WrkResult(**json.loads(line.removeprefix(_RESULT)))
    raise ValueError(f"no result in wrk's output: {output[-300:]!r}")


def run_wrk(
    url: str, template: Path, *, seconds: float, connections: int, headers: Mapping[str, str]
) -> WrkResult:
    """Send requests from this process's core; wrk takes whole seconds only."""
    with start_wrk(
        url, template, seconds=seconds, connections=connections, headers=headers
    ) as process:
        return read_result(process, seconds)


def start_wrk(
    url: str,
    template: Path,
    *,
    seconds: float,
    connections: int,
    headers: Mapping[str, str],
    keys: Path | None = None,
) -> "subprocess.Popen[str]":
    """Begin to send requests, as `run_wrk` does.

    `keys` is a file with API keys, one per line; conversations use them in turn.
    """
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    flags = [f"-H{name}: {value}" for name, value in headers.items()]
    command = [
        *(program, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"),
        *("-s", str(SCRIPT), *flags, url, "--", str(template), *([str(keys)] if keys else [])),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_result(process: "subprocess.Popen[str]", seconds: float) -> WrkResult:
    """Wait for the end and return the result; raises CalledProcessError."""
    output, errors = process.communicate(timeout=seconds + 60)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, output, errors)
    return parse_output(output)
