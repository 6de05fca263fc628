"""The scripted server as a process of its own, so that it does not share the client's time."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from maxgate.tools.loadtest.responder.script import Script


@asynccontextmanager
async def responding(script: Script, *, within: Sequence[str] = ()) -> AsyncIterator[str]:
    """Its address while it is up; `within` is a command that starts another, such as taskset."""
    process = await asyncio.create_subprocess_exec(
        *within,
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
