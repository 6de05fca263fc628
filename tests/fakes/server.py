"""Serve an ASGI application on a free port, in the event loop of the test."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import uvicorn

from maxgate.server.protocol import GatewayProtocol, listening_socket


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        """Wait without uvicorn's polling every 0.1 s, because hundreds of tests stop a server."""
        await self.on_tick(0)
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down without uvicorn's polling."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        if tasks := set(self.server_state.tasks):
            _, late = await asyncio.wait(tasks, timeout=self.config.timeout_graceful_shutdown)
            for task in late:
                task.cancel()
        await self.lifespan.shutdown()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # leaves the signal handlers to pytest


@asynccontextmanager
async def serving(
    app: Any,
    *,
    request_read_timeout: float = 30,
    write_timeout: float = 60,
    own_protocol: bool = True,
    **options: Any,
) -> AsyncIterator[str]:
    """Serve the application and yield its address; `options` go to uvicorn."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # tests cause failures on purpose
    config = uvicorn.Config(
        app,
        http=(
            partial(
                GatewayProtocol,
                request_read_timeout=request_read_timeout,
                write_timeout=write_timeout,
            )
            if own_protocol
            else "httptools"
        ),
        proxy_headers=not own_protocol,  # as in server/worker.py
        ws="none",
        lifespan="on",
        log_config=None,
        timeout_graceful_shutdown=1,
        **options,
    )
    server = _Server(config)
    with listening_socket("127.0.0.1", 0) as listener:
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await server.up.wait()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stopping.set()
            await running
