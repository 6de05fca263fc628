"""Engines that the gateway starts and stops at run time, each with its supervisor process."""

import asyncio
import os
import random
import socket
import sys
from contextlib import ExitStack, suppress
from typing import Any, Final

import httpx
from typing_extensions import override

from maxgate.cli.engine_process import EngineChild
from maxgate.control_plane.model_rooms import EngineHost, HostedEngine
from maxgate.errors import EngineError
from maxgate.model_cards.card import ModelCard
from maxgate.settings_names import to_variable
from maxgate.telemetry.logging import logs_json
from maxgate.upstream.engine_metrics import default_metrics_url
from maxgate.upstream.settings import ReplicaSettings

_POLL_INTERVAL: Final = 0.2
_PROBE_TIMEOUT: Final = 2.0
# Below the ports that systems assign to outgoing connections.
_PORTS: Final = range(20_000, 32_000, 2)
# Prefix of the line in which `maxgate engine start` reports its failure.
_FAILURE: Final = "maxgate: "


class SupervisedEngine(HostedEngine):
    """A process of `maxgate engine start`, which supervises the engine at `settings.url`.

    Its output is copied to the gateway's. It ends its engine when its standard input closes, also
    when the gateway is killed.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, settings: ReplicaSettings, output: Any
    ) -> None:
        self.settings = settings
        self.failure = "its process has ended"
        self._process = process
        self._copying = asyncio.create_task(self._copy_output(output))

    async def _copy_output(self, output: Any) -> None:
        while (reader := self._process.stderr) and (content := await reader.readline()):
            line = content.decode(errors="replace").rstrip()
            if line.startswith(_FAILURE):
                self.failure = line.removeprefix(_FAILURE).rpartition("did not start: ")[2]
            with suppress(OSError):
                print(line, file=output, flush=True)

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    @override
    async def wait(self) -> None:
        await self._process.wait()
        await self._copying

    @override
    async def stop(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self.wait()


class AdoptedEngine(HostedEngine):
    """An engine that was started with the gateway."""

    def __init__(self, child: EngineChild, settings: ReplicaSettings) -> None:
        self.settings = settings
        self._child = child

    @override
    async def wait(self) -> None:
        await asyncio.Future()  # its end ends the gateway

    @override
    async def stop(self) -> None:
        await asyncio.to_thread(self._child.stop)


class SupervisedHost(EngineHost):
    """Starts engines on free ports, and warms each with a request.

    `kind` is `local` or `docker`. With `uses_stdout`, progress is written to stdout, not stderr.
    """

    def __init__(self, kind: str, *, warm_up_timeout: float, uses_stdout: bool) -> None:
        self._kind = kind
        self._warm_up_timeout = warm_up_timeout
        self._output = sys.stdout if uses_stdout else sys.stderr

    @override
    async def start(self, card: ModelCard) -> SupervisedEngine:
        port = find_free_ports()
        url = f"http://127.0.0.1:{port}"
        settings = ReplicaSettings(
            url=url, models=[card.served_model_name], metrics_url=default_metrics_url(url)
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "maxgate", "engine", "start", card.name),
            *("--kind", self._kind, "--port", str(port), "--until-stdin-closes"),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # only the gateway gets Ctrl-C
            env={
                **os.environ,
                "PYTHONUNBUFFERED": "1",
                to_variable("engine.metrics_port"): "0",
                to_variable("telemetry.log_format"): "json" if logs_json() else "text",
            },
        )
        engine = SupervisedEngine(process, settings, self._output)
        try:
            await self._wait_until_ready(engine, card)
        except BaseException:
            await asyncio.shield(engine.stop())
            raise
        return engine

    async def _wait_until_ready(self, engine: SupervisedEngine, card: ModelCard) -> None:
        url = engine.settings.url
        async with httpx.AsyncClient(trust_env=False) as client:
            while not await _lists_models(client, url):
                if engine.has_ended:
                    await engine.wait()
                    raise EngineError(engine.failure)
                await asyncio.sleep(_POLL_INTERVAL)
            await self._warm_up(client, url, card)

    async def _warm_up(self, client: httpx.AsyncClient, url: str, card: ModelCard) -> None:
        """Send the first request, which may take longer than others."""
        model = card.served_model_name
        path, body = "completions", {"model": model, "prompt": "Hello", "max_tokens": 1}
        if card.task == "embeddings":
            path, body = "embeddings", {"model": model, "input": ["Hello"]}
        try:
            response = await client.post(
                f"{url}/v1/{path}", json=body, timeout=self._warm_up_timeout
            )
        except httpx.HTTPError as error:
            cause = str(error) or type(error).__name__
            raise EngineError(f"it did not respond to its first request: {cause}") from error
        if response.status_code >= 500:
            raise EngineError(f"it failed at its first request, with {response.status_code}")


async def _lists_models(client: httpx.AsyncClient, url: str) -> bool:
    with suppress(httpx.HTTPError):
        response = await client.get(f"{url}/v1/models", timeout=_PROBE_TIMEOUT)
        return response.status_code == 200
    return False


def find_free_ports() -> int:
    """Return the first of two adjacent free ports, for an engine and its metrics."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with suppress(OSError), ExitStack() as stack:
            for one in (port, port + 1):
                stack.enter_context(socket.create_server(("127.0.0.1", one)))
            return port
    raise EngineError("no two adjacent ports are free")
