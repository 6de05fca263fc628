"""Which engine gets a request."""

from collections.abc import Collection, Sequence

from maxgate.upstream.endpoint import Endpoint


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
