"""All engines together: one of them is asked, another one if that one does not answer."""

from collections.abc import Collection, Sequence

import httpx

from maxgate.upstream.errors import NotAnswered, unavailable
from maxgate.upstream.replica import Endpoint, EngineAnswer, EngineCall, ask
from maxgate.upstream.settings import UpstreamSettings


def least_loaded(
    endpoints: Sequence[Endpoint], model: str, *, avoid: Collection[Endpoint] = ()
) -> Endpoint | None:
    """The engine with the fewest requests in flight among those that serve the model.

    Healthy ones come first; one that has not been looked at yet may be tried. Those in `avoid` are
    left out; None where nothing remains.
    """
    usable = [
        e
        for e in endpoints
        if e.state != "unreachable" and (model in e.models or e.state == "unknown")
        if e not in avoid
    ]
    if len(usable) == 1:
        return usable[0]
    return min(usable, key=lambda e: (e.state != "healthy", e.in_flight), default=None)


_ATTEMPTS = 2


class Engines:
    """Sends calls to engines over HTTP.

    A call that an engine did not begin to answer is tried once more, on another engine if there
    is one.

    Raises UpstreamUnavailable, UpstreamOverloaded, UpstreamTimeout, UpstreamError, and
    InvalidRequest for what only the engine could find.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        transport: httpx.AsyncBaseTransport,
        settings: UpstreamSettings,
    ) -> None:
        self._endpoints = endpoints
        self._transport = transport
        self._settings = settings

    async def ask(self, call: EngineCall) -> EngineAnswer:
        """The answer of the first engine that gives one; it has to be closed."""
        avoid: list[Endpoint] = []
        failure: NotAnswered | None = None
        for _ in range(_ATTEMPTS):
            endpoint = least_loaded(self._endpoints, call.model, avoid=avoid)
            if endpoint is None:
                break
            try:
                return await ask(endpoint, self._transport, call, self._settings)
            except NotAnswered as error:
                failure = error
                self._note_failure(endpoint, error, avoid)
        raise failure or unavailable()

    def _note_failure(self, endpoint: Endpoint, error: NotAnswered, avoid: list[Endpoint]) -> None:
        if error.refused:
            endpoint.mark_unreachable(error.message)
        # An engine that restarts hangs up; with no other engine, the same one gets a second chance.
        if error.refused or len(self._endpoints) > 1:
            avoid.append(endpoint)
