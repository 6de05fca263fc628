"""Changes of keys reach the other gateways, or none; losing some is reported."""

import re
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis

from maxgate.auth import redis_key_changes
from maxgate.auth.key_changes import Changes, KeyChanges, NoKeyChanges
from maxgate.auth.redis_key_changes import MAX_CHANGES, RETENTION, RedisKeyChanges
from maxgate.stores.redis import RedisStore
from maxgate.stores.settings import RedisSettings
from tests.conftest import ROOT
from tests.fakes.clock import FakeClock
from tests.fakes.redis_server import RedisServer, start_redis

KEY = "maxgate:{key-changes}"
NOTHING = Changes([], is_complete=True)


@pytest.fixture(scope="module")
def started() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture
def server(started: RedisServer) -> RedisServer:
    """A Redis without data."""
    with redis.Redis.from_url(started.url) as client:
        client.flushall()
    return started


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def connect(server: RedisServer, clock: FakeClock) -> AsyncIterator[Callable[[], KeyChanges]]:
    """A function that connects a gateway to Redis."""
    opened: list[RedisKeyChanges] = []

    def open_one() -> KeyChanges:
        store = RedisStore(RedisSettings(url=server.url, timeout=0.2), clock=clock)
        opened.append(RedisKeyChanges(store))
        return opened[-1]

    yield open_one
    for changes in opened:
        await changes.aclose()


@pytest.fixture(params=["none", "redis"])
def pair(
    request: pytest.FixtureRequest, connect: Callable[[], KeyChanges]
) -> tuple[KeyChanges, KeyChanges]:
    """Two gateways."""
    if request.param == "none":
        return NoKeyChanges(), NoKeyChanges()
    return connect(), connect()


async def test_contract(pair: tuple[KeyChanges, KeyChanges]) -> None:
    """A change is reported to the other gateway once if there is a way, and none is made up."""
    one, other = pair
    await other.poll()
    assert await other.poll() == (NOTHING if isinstance(other, RedisKeyChanges) else ((), True))

    await one.publish([])
    await one.publish(["key_1", "proj_1"])
    await one.publish(["key_1"])
    ids, is_complete = await other.poll()

    expected = {"key_1", "proj_1"} if isinstance(one, RedisKeyChanges) else set()
    assert (set(ids), is_complete) == (expected, True)
    assert list((await other.poll()).ids) == []


async def test_first_poll(connect: Callable[[], KeyChanges]) -> None:
    """Entries read before the first poll may be outdated, even without any change."""
    assert await connect().poll() == ([], False)


async def test_outage(
    server: RedisServer, connect: Callable[[], KeyChanges], clock: FakeClock
) -> None:
    """Changes published while Redis is away arrive afterwards, and readers know of the gap."""
    one, other = connect(), connect()
    await other.poll()
    server.stop()
    await one.publish(["key_1"])
    assert list((await other.poll()).ids) == []
    clock.advance(5)
    server.start()

    await one.poll()

    assert await other.poll() == (["key_1"], False)
    assert await other.poll() == NOTHING


async def test_lost_data(server: RedisServer, connect: Callable[[], KeyChanges]) -> None:
    """If Redis has lost its data between two polls, the later one is incomplete."""
    one, other = connect(), connect()
    await one.publish(["key_1"])
    await other.poll()
    with redis.Redis.from_url(server.url) as client:
        client.flushall()

    assert await other.poll() == ([], False)
    await one.publish(["key_2"])
    assert await other.poll() == (["key_2"], True)


async def test_clock_set_back(server: RedisServer, connect: Callable[[], KeyChanges]) -> None:
    """Changes arrive although the clock of Redis was set back."""
    one, other = connect(), connect()
    with redis.Redis.from_url(server.url) as client:
        client.zadd(KEY, {"key_0": 4_000_000_000_000})
    await other.poll()

    await one.publish(["key_1"])

    assert await other.poll() == (["key_1"], True)


async def test_bounds(
    server: RedisServer, connect: Callable[[], KeyChanges], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis keeps a bounded number of changes for a bounded time; readers know if one is lost."""
    monkeypatch.setattr(redis_key_changes, "MAX_CHANGES", 10)
    one, other = connect(), connect()
    await other.poll()
    for number in range(12):
        await one.publish([f"key_{number}"])

    ids, is_complete = await other.poll()

    assert (list(ids), is_complete) == ([f"key_{number}" for number in range(2, 12)], False)
    with redis.Redis.from_url(server.url) as client:
        assert client.zcard(KEY) == 10
        assert 0 < client.pttl(KEY) <= RETENTION * 1000


async def test_permissions(server: RedisServer) -> None:
    """The permissions in docs/redis.md are enough."""
    text = (ROOT / "docs" / "redis.md").read_text()
    rules = re.search(r"ACL SETUSER maxgate (.*?)\n\n", text, re.DOTALL)
    assert rules is not None
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "maxgate", *rules[1].replace("\\\n", "").split())
    url = server.url.replace("unix://", "unix://maxgate:password@")
    changes = RedisKeyChanges(RedisStore(RedisSettings(url=url)))

    await changes.publish(["key_1"])

    assert await changes.poll() == (["key_1"], False)
    await changes.aclose()


async def test_unsent_changes(server: RedisServer, connect: Callable[[], KeyChanges]) -> None:
    """During an outage, a bounded number of changes waits."""
    one = connect()
    server.stop()
    for number in range(MAX_CHANGES + 1):
        await one.publish([f"key_{number}"])
    server.start()

    assert isinstance(one, RedisKeyChanges)
    assert len(one._unsent) == MAX_CHANGES
    assert "key_0" not in one._unsent
