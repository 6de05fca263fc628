"""`python -m maxgate.tools.loadtest.responder.server SCRIPT`: prints its port, serves until killed.

It also ends when its standard input does, so that nothing is left when who started it dies.
`GET /notes` gives what was noted since the last time and forgets it; `PUT /script` changes the
script for the requests after it.
"""

import asyncio
import gc
import os
import signal
import sys

import uvloop

from maxgate.tools.loadtest.responder.script import Script
from maxgate.tools.loadtest.responder.speaker import Speaker
from maxgate.tools.loadtest.responder.stage import Stage


async def serve(script: Script) -> None:
    """Serve on a free port, whose number is printed, until the input ends."""
    loop = asyncio.get_running_loop()
    stage = Stage(script)
    stage.bind(loop)
    server = await loop.create_server(lambda: Speaker(stage), "127.0.0.1", 0, backlog=4096)
    os.write(1, b"%d\n" % server.sockets[0].getsockname()[1])
    gc.freeze()
    ended = loop.create_future()
    loop.add_reader(0, _read_input, ended)
    async with server:
        await ended


def _read_input(ended: "asyncio.Future[None]") -> None:
    if not os.read(0, 4096) and not ended.done():
        ended.set_result(None)


def main() -> None:
    """Serve the script of the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):  # it ends with its input
        signal.signal(number, signal.SIG_IGN)
    uvloop.run(serve(Script.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "{}")))


if __name__ == "__main__":
    main()
