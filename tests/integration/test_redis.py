"""A real Redis that restarts, hangs, and gets calls that are cancelled."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from time import monotonic

import pytest
import redis as redis_client
from structlog.testing import capture_logs

from maxgate.admission.ledger import Grant, Holding
from maxgate.admission.redis_ledger import RedisLedger
from maxgate.limits.redis_table import RedisTable
from maxgate.limits.table import Report, State
from maxgate.stores.redis import RETRY_SECONDS, RedisScript, RedisStore, RedisUnavailable
from maxgate.stores.settings import RedisSettings
from tests.conftest import ROOT
from tests.fakes import gateway
from tests.fakes.clock import FakeClock
from tests.fakes.redis_server import RedisServer, start_redis
from tests.fakes.waiting import until_holds

ECHO = RedisScript("return ARGV[1]")
TLS = ROOT / "tests" / "data" / "tls"
ENGINE_NAME = "smollm2-135m-instruct"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with start_redis() as started:
        yield started


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(server: RedisServer, clock: FakeClock) -> AsyncIterator[RedisStore]:
    opened = RedisStore(RedisSettings(url=server.url, timeout=0.1), clock=clock)
    yield opened
    await opened.close()


async def echo(store: RedisStore, text: str = "x") -> str:
    """Return the text by way of Redis."""
    reply: bytes = await store.run_script(ECHO, [], [text])
    return reply.decode()


async def test_restart(server: RedisServer, store: RedisStore, clock: FakeClock) -> None:
    """After a restart, the script is loaded again; an outage and its end are logged once."""
    with capture_logs() as lines:
        assert await echo(store) == "x"
        server.stop()
        for _ in range(3):
            with pytest.raises(RedisUnavailable, match=r"redis\.sock is unavailable"):
                await echo(store)
            clock.advance(RETRY_SECONDS)
        server.start()
        assert [await echo(store), await echo(store)] == ["x", "x"]

    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("warning", "Redis is unavailable"),
        ("info", "Redis is available again"),
    ]
    assert lines[1]["seconds"] == 3.0


async def test_restart_between_calls(server: RedisServer, store: RedisStore) -> None:
    """A restart while nothing is sent is not noticed."""
    with capture_logs() as lines:
        await echo(store)
        server.stop()
        server.start()
        assert await echo(store) == "x"

    assert lines == []


async def test_hanging(server: RedisServer, store: RedisStore, clock: FakeClock) -> None:
    """A Redis that does not reply delays one call per second, by no more than the timeout."""
    await echo(store)
    server.pause()
    try:
        with pytest.raises(RedisUnavailable, match=r"no reply within 0\.1 s|Timeout"):
            await echo(store)
        async with asyncio.timeout(0.1):
            for _ in range(1000):
                with pytest.raises(RedisUnavailable):
                    await echo(store)
    finally:
        server.resume()
    clock.advance(RETRY_SECONDS)
    assert await echo(store, "after") == "after"


def count_scripts(admin: redis_client.Redis) -> int:
    """Return how many scripts Redis has run by their digests."""
    calls: int = admin.info("commandstats")["cmdstat_evalsha"]["calls"]
    return calls


@pytest.mark.timing
async def test_busy_loop(store: RedisStore, server: RedisServer) -> None:
    """A reply that has come while the loop was busy for longer than the timeout counts."""
    await echo(store)
    with redis_client.Redis.from_url(server.url) as admin:
        answered = count_scripts(admin)
        call = asyncio.create_task(echo(store))
        while count_scripts(admin) == answered:  # noqa: ASYNC110  # Redis sets no event here
            await asyncio.sleep(0)
    began = monotonic()
    while monotonic() < began + 0.15:
        pass
    assert await call == "x"


async def test_cancelled_calls(store: RedisStore) -> None:
    """The reply of a cancelled call never goes to another one."""

    async def call(number: int) -> None:
        assert await echo(store, str(number)) == str(number)

    for start in range(0, 400, 8):
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(call(start + n)) for n in range(8)]
            for turns in range(4):
                await asyncio.sleep(0)
                running[turns * 2].cancel()


async def test_refused_call(store: RedisStore) -> None:
    """An error of a script counts as unavailable."""
    with pytest.raises(RedisUnavailable, match="Error compiling script"):
        await store.run_script(RedisScript("nonsense"), [], [])


async def test_permissions(server: RedisServer) -> None:
    """The permissions in docs/redis.md are enough."""
    text = (ROOT / "docs" / "redis.md").read_text()
    [command] = [line for line in text.replace("\\\n", " ").splitlines() if "ACL SETUSER" in line]
    with redis_client.Redis.from_url(server.url) as admin:
        admin.execute_command(*command.split())
    url = server.url.replace("unix://", "unix://maxgate:password@")
    store = RedisStore(RedisSettings(url=url, key_prefix="maxgate"))
    ledger = RedisLedger(store)
    report = Report("counter", 2e9, 10, 1, 0, 1, charges=True)
    with capture_logs() as lines:
        grant = await ledger.renew("m", Holding(4, 0, {"a": 9}, {"a": 1.0}))
        await ledger.release()
        reply = await RedisTable(store).exchange("holder", [report], [[(0, 1)]])
        await store.close()

    assert (grant, lines) == (Grant(4, 4, {}, True), [])
    assert (reply.states, reply.refused) == ([State(1, 0)], [None])


async def test_keys(server: RedisServer, store: RedisStore) -> None:
    """A model has one key, which expires a minute after the last renewal."""
    ledger = RedisLedger(store)
    await ledger.renew("m", Holding(4, 0, {"a": 9}, {"a": 1.0}))
    with redis_client.Redis.from_url(server.url) as admin:
        keys = admin.keys()
        times = [admin.pttl(keys[0])]
        await ledger.release()
        times.append(admin.pttl(keys[0]))

    assert keys == [b"maxgate:{slots:m}"]
    assert all(55_000 < time <= 60_000 for time in times)


async def test_shutdown(server: RedisServer) -> None:
    """A gateway that stops gives its slots back, and leaves no connection open."""
    settings = {"redis": {"url": server.url}, "admission": {"slots": 4}}
    with redis_client.Redis.from_url(server.url) as admin:
        async with gateway.start(**settings) as running:
            assert (await running.chat()).status_code == 200
            open_before = len(admin.client_list())
        await until_holds(lambda: len(admin.client_list()) == 1)  # Redis notes it a moment later
    store = RedisStore(RedisSettings(url=server.url))
    ledger = RedisLedger(store)
    grant = await ledger.renew(ENGINE_NAME, Holding(4, 0, {"a": 4}, {}))
    await ledger.release()

    assert (open_before, grant) == (2, Grant(4, 4, {}, True))


async def test_foreign_content(server: RedisServer, store: RedisStore) -> None:
    """Content of another format is replaced."""
    with redis_client.Redis.from_url(server.url) as admin:
        for content in (b"", b"\xc1", b"text", b"\x80", b"\x81\xa6format\x02"):
            admin.set("maxgate:{slots:m}", content)
            grant = await RedisLedger(store).renew("m", Holding(4, 0, {"a": 9}, {}))
            assert grant == Grant(4, 4, {}, True)


async def test_tls(server: RedisServer) -> None:
    """With `rediss://`, the certificate is checked against the CA in the settings."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "ca.pem", TLS / "key.pem")
    path = server.url.removeprefix("unix://")

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pipe(reader, server_writer), pipe(server_reader, writer))

    listener = await asyncio.start_server(accept, "localhost", 0, ssl=context)
    async with listener:
        url = f"rediss://localhost:{listener.sockets[0].getsockname()[1]}"
        trusting = RedisStore(RedisSettings(url=url, ca_file=TLS / "ca.pem", timeout=5))
        assert await echo(trusting) == "x"
        doubting = RedisStore(RedisSettings(url=url, timeout=5))
        with pytest.raises(RedisUnavailable, match="certificate verify failed"):
            await echo(doubting)
        await trusting.close()
        await doubting.close()
