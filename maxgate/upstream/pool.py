"""All engines together: one of them is asked, another one if that one does not answer."""

from collections.abc import Collection, Sequence

import httpx

from maxgate.upstream.errors import EngineUnreachable, unavailable
from maxgate.upstream.replica import EngineAnswer, EngineCall, Replica, ask
from maxgate.upstream.settings import UpstreamSettings


def least_loaded(
    replicas: Sequence[Replica], model: str, *, avoid: Collection[Replica] = ()
) -> Replica | None:
    """The engine with the fewest requests in flight among those that serve the model.

    Healthy ones come first; one that has not been looked at yet may be tried. Those in `avoid` are
    left out; None where nothing remains.
    """
    usable = [
        e
        for e in replicas
        if e.state != "unreachable" and (model in e.models or e.state == "unknown")
        if e not in avoid
    ]
    if len(usable) == 1:
        return usable[0]
    return min(usable, key=lambda e: (e.state != "healthy", e.in_flight), default=None)


_ATTEMPTS = 2


class ReplicaPool:
    """Sends calls to engines over HTTP.

    A call that an engine did not begin to answer is tried once more, on another engine if there
    is one.

    Raises UpstreamUnavailable, UpstreamOverloaded, UpstreamTimeout, UpstreamError, and
    InvalidRequest for what only the engine could find.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        transport: httpx.AsyncBaseTransport,
        settings: UpstreamSettings,
    ) -> None:
        self._endpoints = replicas
        self._transport = transport
        self._settings = settings

    async def ask(self, call: EngineCall) -> EngineAnswer:
        """The answer of the first engine that gives one; it has to be closed."""
        avoid: list[Replica] = []
        failure: EngineUnreachable | None = None
        for _ in range(_ATTEMPTS):
            replica = least_loaded(self._endpoints, call.model, avoid=avoid)
            if replica is None:
                break
            try:
                return await ask(replica, self._transport, call, self._settings)
            except EngineUnreachable as error:
                failure = error
                self._note_failure(replica, error, avoid)
        raise failure or unavailable()

    def _note_failure(
        self, replica: Replica, error: EngineUnreachable, avoid: list[Replica]
    ) -> None:
        if error.refused:
            replica.mark_unreachable(error.message)
        # An engine that restarts hangs up; with no other engine, the same one gets a second chance.
        if error.refused or len(self._endpoints) > 1:
            avoid.append(replica)
