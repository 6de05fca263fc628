"""`python -m maxgate.loadtest.mock_server.server SCRIPT` prints its port and serves.

It ends when its standard input closes, so it never outlives the process that started it.
`GET /timestamps` returns the timestamps recorded since the last call and clears them.
`PUT /script` replaces the script for later requests.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httptools
import httpx
import orjson
import uvloop
from typing_extensions import override

from maxgate.loadtest.client.limits import raise_file_limit
from maxgate.loadtest.mock_server.player import ScheduledResponse, ScriptPlayer, ServerTimestamps
from maxgate.loadtest.mock_server.script import Packet, Script

_MODELS: Final = b'{"object":"list","data":[{"id":"scripted","object":"model","created":1}]}'


@asynccontextmanager
async def start_mock_server(
    script: Script, *, command_prefix: Sequence[str] = ()
) -> AsyncIterator[str]:
    """Run the mock server in a process of its own and yield its URL.

    `command_prefix` is a command that starts another one, such as taskset.
    """
    process = await asyncio.create_subprocess_exec(
        *command_prefix,
        sys.executable,
        "-m",
        "maxgate.loadtest.mock_server.server",
        script.model_dump_json(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None  # noqa: S101  # it is a pipe
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    try:
        port = int(await process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        await process.wait()


async def fetch_timestamps(url: str) -> dict[tuple[int, int], ServerTimestamps]:
    """Timestamps by request index and turn; the server clears them."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        rows = (await client.get(f"{url}/timestamps")).json()
    found = {}
    for request_id, received, writes in rows:
        index, turn = request_id.rsplit("-", 2)[-2:]
        found[int(index), int(turn)] = ServerTimestamps(request_id, received, writes)
    return found


class Connection(asyncio.Protocol):
    """Reads the requests of one client connection and lets the player respond."""

    def __init__(self, player: ScriptPlayer) -> None:
        self._player = player
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url, self._request_id, self._body = b"", b"", b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        self._player.freeze_if_due()
        self._received = time.perf_counter()
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Collect the path; called by httptools."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the request ID; called by httptools."""
        if name == b"x-request-id":
            self._request_id = value

    def on_body(self, body: bytes) -> None:
        """Collect the body; called by httptools."""
        self._body += body

    def on_message_complete(self) -> None:
        """Respond; called by httptools."""
        transport, player = self._transport, self._player
        if transport is None:
            return
        if self._url.endswith(b"/completions"):
            self._complete(transport, player)
        elif self._url == b"/timestamps":
            found, player.timestamps = player.timestamps, []
            rows = [(one.request_id, one.received, one.writes) for one in found]
            transport.write(_build_response(orjson.dumps(rows)))
        elif self._url == b"/script":
            player.play(Script.model_validate_json(self._body))
            transport.write(_build_response(b"{}"))
        else:
            transport.write(_build_response(_MODELS))
        self._url, self._request_id, self._body = b"", b"", b""

    def _complete(self, transport: asyncio.Transport, player: ScriptPlayer) -> None:
        timestamps = ServerTimestamps(self._request_id.decode(), self._received)
        player.timestamps.append(timestamps)
        parts = self._request_id.rsplit(b"-", 2)
        index = int(parts[1]) if len(parts) > 2 else 0
        if player.script.refuse and player.script.refuses(index):
            transport.write(player.refusal)
        elif b'"stream":true' in self._body or b'"stream": true' in self._body:
            ScheduledResponse(player, transport, player.packets, timestamps).start()
        else:
            whole = Packet(player.script.output_times()[-1], player.whole_response, 1)
            ScheduledResponse(player, transport, [whole], timestamps).start()


def _build_response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


async def serve(script: Script) -> None:
    """Print the number of a free port and serve on it until standard input closes."""
    loop = asyncio.get_running_loop()
    player = ScriptPlayer(script)
    player.bind(loop)
    server = await loop.create_server(lambda: Connection(player), "127.0.0.1", 0, backlog=4096)
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
    """Serve the script given on the command line."""
    # A terminal's Ctrl-C reaches this process too; only the parent decides when it ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise_file_limit()
    uvloop.run(serve(Script.model_validate_json(sys.argv[1] if len(sys.argv) > 1 else "{}")))


if __name__ == "__main__":
    main()
