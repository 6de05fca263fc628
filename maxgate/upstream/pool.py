"""The pool of replicas: choose one, send it the call, fail over to another."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, NamedTuple

import structlog

from maxgate.errors import GatewayError
from maxgate.generation.context import RequestContext
from maxgate.upstream.client import EngineClient
from maxgate.upstream.errors import (
    EngineUnreachable,
    map_error_response,
    no_engine_ready,
)
from maxgate.upstream.http1.connection import EngineResponse
from maxgate.upstream.http1.messages import EngineRequest, resolve_route
from maxgate.upstream.replica import Replica
from maxgate.upstream.settings import UpstreamSettings

_MAX_ERROR_BYTES: Final = 64 * 1024
_ERROR_TIMEOUT: Final = 5.0
_MAX_LOGGED_BYTES: Final = 2000

_log = structlog.get_logger()


class EngineCall(NamedTuple):
    """A request to any replica that serves `model`; `stream` selects the timeouts."""

    model: str
    path: str
    body: bytes
    context: RequestContext
    stream: bool = False


def choose_replica(
    replicas: Sequence[Replica], model: str, *, exclude: Collection[Replica] = ()
) -> Replica | None:
    """Return the replica that serves the model with the fewest requests in flight, or None.

    Healthy replicas are preferred to those that have not been probed yet.
    """
    usable = [
        replica
        for replica in replicas
        if replica.state != "unreachable"
        and (model in replica.models or replica.state == "unknown")
        and replica not in exclude
    ]
    if len(usable) == 1:
        return usable[0]
    return min(usable, key=lambda r: (r.state != "healthy", r.in_flight), default=None)


class ReplicaPool:
    """Sends calls to replicas over HTTP.

    A call that got no response at all is sent again, to another replica if there is one, while the
    request's retry allowance lasts.
    """

    def __init__(
        self, replicas: Sequence[Replica], client: EngineClient, settings: UpstreamSettings
    ) -> None:
        self._replicas = replicas
        self._client = client
        self.settings = settings

    async def fetch(self, call: EngineCall) -> bytes:
        """Return the body of a response that is not streamed.

        Raises the errors of `send`, and UpstreamError above `max_response_bytes`.
        """
        deadline = asyncio.get_running_loop().time() + self.settings.response_timeout
        async with await self.send(call) as response:
            return await response.read(self.settings.max_response_bytes, deadline)

    async def send(self, call: EngineCall) -> EngineResponse:
        """Return the response, with status 200, of the first replica that responds; close it.

        Raises UpstreamUnavailable, UpstreamOverloaded, UpstreamTimeout, UpstreamError,
        OutOfResources, and InvalidRequest for errors that only the engine could detect.
        """
        exclude: list[Replica] = []
        failure: EngineUnreachable | None = None
        while replica := choose_replica(self._replicas, call.model, exclude=exclude):
            if failure is not None and not call.context.retries.take():
                break
            try:
                return await self._send_to(replica, call)
            except EngineUnreachable as error:
                failure = error
                if error.failure == "connect_timeout":
                    replica.mark_connect_timeout(error.message, asyncio.get_running_loop().time())
                    exclude.append(replica)
                elif error.is_connect_failure:
                    replica.mark_unreachable(error.message)
                # Stale connections say nothing about the replica. With no other replica, an engine
                # that restarts gets another chance.
                elif error.failure != "stale" and len(self._replicas) > 1:
                    exclude.append(replica)
        raise failure or no_engine_ready()

    async def _send_to(self, replica: Replica, call: EngineCall) -> EngineResponse:
        settings, record = self.settings, call.context.record
        record.engine = replica.url
        record.engine_calls += 1
        if call.stream:
            head_timeout, read_timeout = settings.first_token_timeout, settings.idle_timeout
        else:
            head_timeout = read_timeout = settings.response_timeout
        route = resolve_route(replica.target, call.path)
        request = EngineRequest(
            route, call.body, settings.connect_timeout, head_timeout, read_timeout
        )
        replica.in_flight += 1
        try:
            response = await self._client.send(request)
        except BaseException:
            replica.in_flight -= 1
            raise
        response.on_close = partial(_end_call, replica)
        response.activity = replica.activity
        if response.status < 500:
            replica.activity.at = asyncio.get_running_loop().time()
        if response.status != 200:
            async with response:
                content = await _read_error(response)
                _log.warning(
                    "the engine refused a request",
                    request_id=record.request_id,
                    engine=replica.url,
                    status=response.status,
                    response=content[:_MAX_LOGGED_BYTES].decode(errors="replace"),
                )
                raise map_error_response(response.status, content, response.headers)
        return response


async def _read_error(response: EngineResponse) -> bytes:
    try:
        async with asyncio.timeout(_ERROR_TIMEOUT):
            return await response.read(_MAX_ERROR_BYTES)
    except (GatewayError, TimeoutError):
        return b""  # the status alone decides


def _end_call(replica: Replica) -> None:
    replica.in_flight -= 1
