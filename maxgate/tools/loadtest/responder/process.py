"""The scripted server as a process of its own, so that it does not share the client's time."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from maxgate.tools.loadtest.responder.script import Script


@asynccontextmanager
async def responding(script: Script, *, cpu: int | None = None) -> AsyncIterator[str]:
    """Its address while it is up; `cpu` is the only core that it may use."""
    pinned = [] if cpu is None else ["taskset", "-c", str(cpu)]
    process = await asyncio.create_subprocess_exec(
        *pinned,
        sys.executable,
        "-m",
        "maxgate.tools.loadtest.responder.server",
        script.model_dump_json(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None  # noqa: S101  # it was asked for
    assert process.stdout is not None  # noqa: S101  # see above
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        await process.wait()
