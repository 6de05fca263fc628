"""The replicas of a worker, which can change while it serves."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from urllib.parse import SplitResult, urlsplit

import structlog

from maxgate.upstream.replica import Replica
from maxgate.upstream.settings import DNS_PREFIX, ReplicaSettings

_log = structlog.get_logger("upstream")


class ReplicaSet:
    """Keeps `replicas` equal to the engines that are configured.

    `replicas` is one list that others hold, too. An engine whose URL differs in nothing but its
    credentials keeps its replica. Requests at a replica that is removed run to their end. Each
    address of the name in a `dns+http://` URL is a replica; after a failed lookup, the addresses
    stay as they are. Every change is followed by `on_change`, which gets the replicas that were
    removed.
    """

    def __init__(
        self,
        engines: Sequence[ReplicaSettings],
        on_change: Callable[[Collection[Replica]], None] = lambda _: None,
    ) -> None:
        self.replicas: list[Replica] = []
        self.engines: Sequence[ReplicaSettings] = engines
        self._draining: Collection[str] = ()
        self._addresses: dict[str, Sequence[str]] = {}
        self._on_change: Callable[[Collection[Replica]], None] = lambda _: None
        self._reconcile()
        self._on_change = on_change

    def on_change(self, callback: Callable[[Collection[Replica]], None]) -> None:
        """Call this after every change, with the replicas that were removed."""
        self._on_change = callback

    def apply(self, engines: Sequence[ReplicaSettings], draining: Collection[str] = ()) -> None:
        """Use these engines from now on; `draining` has the ids of replicas to drain."""
        self.engines, self._draining = engines, frozenset(draining)
        self._reconcile()

    async def run(self, interval: float) -> None:
        """Look up the names of `dns+` URLs every `interval` seconds until cancelled."""
        while True:
            await asyncio.sleep(interval)
            await self.look_up()

    async def look_up(self) -> None:
        """Look up all names once."""
        loop, before = asyncio.get_running_loop(), dict(self._addresses)
        for engine in self.engines:
            if not engine.url.startswith(DNS_PREFIX):
                continue
            parts = urlsplit(engine.url.removeprefix(DNS_PREFIX))
            try:
                found = await loop.getaddrinfo(
                    parts.hostname, parts.port or 80, type=socket.SOCK_STREAM
                )
            except (OSError, UnicodeError) as error:
                _log.warning("no addresses for engine", engine=engine.public_url, error=str(error))
                continue
            self._addresses[engine.url] = sorted({str(address[0]) for *_, address in found})
        if before != self._addresses:
            self._reconcile()

    def _reconcile(self) -> None:
        current = {replica.target: replica for replica in self.replicas}
        wanted = {engine.url: engine for engine in self._expand()}
        # An engine with other credentials is the same engine, and serves without a pause.
        same = {replica.id: replica for url, replica in current.items() if url not in wanted}
        kept = []
        for url, engine in wanted.items():
            replica = current.get(url) or same.pop(engine.id, None) or Replica(url)
            kept.append(replica)
            replica.reconfigure(url, engine.models)
            replica.weight = engine.weight
            replica.max_concurrency = engine.max_concurrency
            replica.metrics_url = engine.metrics_url
            replica.draining = replica.id in self._draining
        removed = [replica for replica in self.replicas if replica not in kept]
        self.replicas[:] = kept
        self._on_change(removed)

    def _expand(self) -> Iterator[ReplicaSettings]:
        """Yield an engine for each address of those that are given by name.

        An address that is also an engine by itself has the settings of that one.
        """
        by_address = {engine.id for engine in self.engines}
        for engine in self.engines:
            if not engine.url.startswith(DNS_PREFIX):
                yield engine
                continue
            parts = urlsplit(engine.url.removeprefix(DNS_PREFIX))
            for address in self._addresses.get(engine.url, ()):
                metrics_url = engine.metrics_url and replace_host(
                    urlsplit(engine.metrics_url), address
                )
                url = replace_host(parts, address)
                replica = engine.model_copy(update={"url": url, "metrics_url": metrics_url})
                if replica.id not in by_address:
                    yield replica


def replace_host(url: SplitResult, address: str) -> str:
    """Return the URL with an IP address in place of its host name; credentials and port stay."""
    credentials, at, _ = url.netloc.rpartition("@")
    is_ipv6 = ipaddress.ip_address(address.partition("%")[0]).version == 6
    host = f"[{address}]" if is_ipv6 else address
    port = "" if url.port is None else f":{url.port}"
    return url._replace(netloc=f"{credentials}{at}{host}{port}").geturl()
