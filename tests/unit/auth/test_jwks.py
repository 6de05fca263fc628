"""The cache of public keys, in virtual time."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from maxgate.auth.identity import AuthenticationUnavailable, InvalidCredential
from maxgate.auth.jwk import VerificationKey, read_keys
from maxgate.auth.jwks import Jwks, ProviderUnavailable
from tests.fakes.oidc_provider import OidcProvider
from tests.fakes.timer_loop import VirtualTimeLoop
from tests.unit.auth.jwt_examples import build_settings

_Result = TypeVar("_Result")


class Source:
    """Keys in virtual time: `fetches` has the times of all fetches."""

    def __init__(self) -> None:
        self.loop = VirtualTimeLoop()
        self.provider = OidcProvider()
        self.fetches: list[float] = []
        self.duration = 0.0
        self.failure: Exception | None = None
        self.jwks = Jwks(self.fetch, build_settings(), self)

    def monotonic(self) -> float:
        return self.loop.time()

    def wall(self) -> float:
        return self.loop.time()

    async def fetch(self) -> list[VerificationKey]:
        self.fetches.append(self.loop.time() - 1000)
        await asyncio.sleep(self.duration)
        if self.failure is not None:
            raise self.failure
        return read_keys(self.provider.build_jwks(), ["ES256"])

    def start(self) -> None:
        async def start() -> None:
            self.jwks.start()

        self.run(start())

    def begin(self, coroutine: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = self.loop.create_task(coroutine)
        self.loop.settle()
        return task

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        return self.begin(coroutine).result()

    def find(self, key_id: str | None = "key-1", algorithm: str = "ES256") -> VerificationKey:
        return self.run(self.jwks.find(key_id, algorithm))


@pytest.fixture
def source() -> Iterator[Source]:
    """A provider whose keys have not been fetched yet."""
    source = Source()
    yield source
    source.run(source.jwks.aclose())
    assert asyncio.all_tasks(source.loop) == set()
    source.loop.close()


def test_regular_refresh(source: Source) -> None:
    """Keys are fetched at the start, and then within the interval, not at equal times."""
    source.start()
    source.loop.advance(3000)
    pauses = [b - a for a, b in zip(source.fetches, source.fetches[1:], strict=False)]
    assert source.fetches[0] == 0
    assert all(240 <= pause <= 300 for pause in pauses)
    assert len(set(pauses)) == len(pauses) >= 9


def test_first_fetch(source: Source) -> None:
    """Tokens that arrive during the first fetch wait for it, and share it."""
    source.duration = 2
    source.start()
    waiting = [source.begin(source.jwks.find("key-1", "ES256")) for _ in range(100)]
    source.loop.advance(2)
    assert len({task.result() for task in waiting}) == 1
    assert source.fetches == [0]


def test_cancelled_caller(source: Source) -> None:
    """A caller that gives up does not end the fetch for the others."""
    source.duration = 2
    first, second = (source.begin(source.jwks.find("key-1", "ES256")) for _ in range(2))
    first.cancel()
    source.loop.advance(2)
    assert first.cancelled()
    assert source.jwks.holds(second.result())


def test_unknown_key(source: Source) -> None:
    """A new key of the provider is found at once."""
    source.start()
    known = source.find()
    source.loop.advance(10)
    source.provider.add_key("key-2")
    assert source.find("key-2").key_id == "key-2"
    assert source.fetches == [0, 10]
    assert source.find() is known


def test_many_unknown_keys(source: Source) -> None:
    """Random key ids cause one fetch in ten seconds, and known keys stay usable."""
    source.start()
    known = source.find()
    for number in range(1000):
        with pytest.raises(InvalidCredential) as refusal:
            source.find(f"random-{number}")
        assert refusal.value.reason == "unknown_key"
        source.loop.advance(0.1)
    assert source.find() is known
    assert len(source.fetches) <= 11


def test_withdrawn_key(source: Source) -> None:
    """A key that is no longer published is gone after the interval, and the other one stays."""
    source.provider.add_key("key-2")
    source.start()
    old, new = source.find("key-1"), source.find("key-2")
    del source.provider.keys["key-1"]
    source.loop.advance(300)
    assert not source.jwks.holds(old)
    assert source.find("key-2") is new
    with pytest.raises(InvalidCredential):
        source.find("key-1")


@pytest.mark.parametrize("failure", [ProviderUnavailable("down"), RuntimeError("bug")])
def test_outage(source: Source, failure: Exception) -> None:
    """Known keys are used for 15 minutes without the provider, unknown ones get 503, not 401."""
    source.start()
    known = source.find()
    last = source.fetches[-1]
    source.failure = failure
    source.loop.advance(890)
    assert last == 0
    assert source.fetches[1] <= 300
    assert source.jwks.holds(known)
    assert source.find() is known
    with pytest.raises(AuthenticationUnavailable) as refusal:
        source.find("key-2")
    assert refusal.value.headers()["retry-after"] == "10"
    source.loop.advance(11)
    assert not source.jwks.holds(known)
    with pytest.raises(AuthenticationUnavailable):
        source.find()


def test_recovery(source: Source) -> None:
    """After an outage, keys are fetched within ten seconds, without a token that needs them."""
    source.start()
    known = source.find()
    source.failure = ProviderUnavailable("down")
    source.loop.advance(2000)
    assert not source.jwks.holds(known)
    source.failure = None
    source.loop.advance(10)
    assert source.jwks.holds(known)
    assert source.find() is known


def test_log(source: Source) -> None:
    """An outage is logged once, with its cause, and so are its end and a change of keys."""
    with capture_logs() as lines:
        source.start()
        source.failure = ProviderUnavailable("down")
        source.loop.advance(600)
        source.failure = None
        source.loop.advance(10)
        source.provider.add_key("key-2")
        source.loop.advance(300)
    issuer = build_settings().issuer
    assert [{**line, "seconds": 0} for line in lines] == [
        {
            "log_level": "warning",
            "event": "The identity provider is unavailable",
            "issuer": issuer,
            "error": "down",
            "seconds": 0,
        },
        {"log_level": "info", "event": "The identity provider is available again", "seconds": 0},
        {
            "log_level": "info",
            "event": "The identity provider changed its keys",
            "added": 1,
            "removed": 0,
            "seconds": 0,
        },
    ]


def test_start_without_provider(source: Source) -> None:
    """A gateway that starts before its provider refuses tokens with 503 until that is up."""
    source.failure = ProviderUnavailable("down")
    source.start()
    for _ in range(5):
        with pytest.raises(AuthenticationUnavailable):
            source.find()
    assert source.fetches == [0]
    source.failure = None
    source.loop.advance(10)
    assert source.find().key_id == "key-1"


def test_wrong_algorithm(source: Source) -> None:
    """A known key with another algorithm is refused without a fetch."""
    source.start()
    source.loop.advance(20)
    with pytest.raises(InvalidCredential) as refusal:
        source.find("key-1", "RS256")
    assert (refusal.value.reason, source.fetches) == ("wrong_algorithm", [0])


def test_no_key_id(source: Source) -> None:
    """A token without key id is accepted only while one key suits."""
    source.start()
    assert source.find(None).key_id == "key-1"
    source.provider.add_key("key-2")
    source.loop.advance(300)
    with pytest.raises(InvalidCredential) as refusal:
        source.find(None)
    assert refusal.value.reason == "unknown_key"


def test_close_during_fetch(source: Source) -> None:
    """Closing ends a fetch, and those who wait for it get 503."""
    source.duration = 60
    source.start()
    waiting = source.begin(source.jwks.find("key-1", "ES256"))
    source.run(source.jwks.aclose())
    assert isinstance(waiting.exception(), AuthenticationUnavailable)
