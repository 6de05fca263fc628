"""A database, which may be down: every call is bounded in time, and works again afterwards.

Needs SQLAlchemy, which takes long to import: import it only where a database is opened.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import URL, CursorResult, Executable, event, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from maxgate.clock import Clock, SystemClock
from maxgate.errors import ConfigurationError
from maxgate.installation import requires_extra
from maxgate.stores.identity import StoreUnavailable
from maxgate.stores.settings import DatabaseSettings

RETRY_SECONDS: Final = 1.0
"""Interval of attempts to connect while the database is down; all other calls fail at once."""
FILE_NAME: Final = "maxgate.db"
"""The default database in `state_dir`."""

_MAX_IDLE_SECONDS: Final = 60
"""Time after which PostgreSQL ends a transaction whose gateway has vanished."""
_READ_ONLY: Final = "maxgate_read_only"
# Without these, a connection to a host that has vanished is noticed after hours.
_TCP_OPTIONS: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
_FOREIGN_KEY_ERRORS: Final = frozenset({"23503", "SQLITE_CONSTRAINT_FOREIGNKEY"})
_READ_ONLY_ERROR: Final = "25006"
_Result = TypeVar("_Result")
_log = structlog.get_logger("stores")


def find_url(settings: DatabaseSettings, state_dir: Path) -> URL:
    """Return the URL of the database for SQLAlchemy's synchronous drivers."""
    if settings.url is None:
        path = (state_dir.expanduser() / FILE_NAME).absolute()
        return URL.create("sqlite", database=str(path))
    url = make_url(settings.url)
    return url.set(drivername="postgresql+psycopg") if settings.is_postgres else url


def connect_arguments(settings: DatabaseSettings) -> dict[str, Any]:
    """Return the arguments with which both kinds of drivers connect."""
    if not settings.is_postgres:
        return {"timeout": settings.timeout * 0.9}  # the reason is known before `wait` gives up
    # A pooler such as PgBouncer gives each transaction another connection, which does not have
    # the statements that were prepared on the one before.
    return {
        "prepare_threshold": None,
        "connect_timeout": max(2, round(settings.timeout)),
        "application_name": "maxgate",
        # A database with the encoding SQL_ASCII would otherwise return bytes.
        "client_encoding": "utf8",
        **_TCP_OPTIONS,
    }


def create_file(url: URL) -> None:
    """Create the file of an SQLite database, for this user only; raises ConfigurationError.

    SQLite gives the files beside it the same mode.
    """
    path = Path(url.database or "")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigurationError(f"database {path}: {error.strerror}") from error


def prepare_sqlite(connection: Any, _: Any = None) -> None:
    """Set up a new connection of either SQLite driver; transactions begin by `BEGIN` only."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def describe_error(error: BaseException) -> str:
    """Return the driver's message in one line, without SQL and parameters."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__


def is_foreign_key_error(error: IntegrityError) -> bool:
    """Return whether a row that another one refers to does not exist."""
    cause = error.orig
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    return code in _FOREIGN_KEY_ERRORS


class Connection:
    """One transaction of a database."""

    def __init__(self, database: "Database", raw: AsyncConnection) -> None:
        self._database = database
        self._raw = raw
        self.is_postgres = database.is_postgres

    async def execute(self, statement: Executable, rows: Any = None) -> CursorResult[Any]:
        """Run a statement, once per row of parameters.

        Raises StoreUnavailable, and IntegrityError if it breaks a constraint.
        """
        return await self._database.wait(self._raw, self._raw.execute(statement, rows))

    async def execute_many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement in the driver's own SQL, once per row; raises as `execute` does."""
        await self._database.wait(self._raw, self._raw.exec_driver_sql(statement, list(rows)))

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what is done in the block if it raises IntegrityError."""
        nested = self._raw.begin_nested()
        await self._database.wait(self._raw, nested.start())
        try:
            yield
        except IntegrityError:
            await self._database.wait(self._raw, nested.rollback())
            raise
        await self._database.wait(self._raw, nested.commit())


class Database:
    """The connections of this process to a database; logs each outage once, and its end.

    Connects when it is first needed.
    """

    def __init__(
        self, settings: DatabaseSettings, state_dir: Path, *, clock: Clock | None = None
    ) -> None:
        url = find_url(settings, state_dir)
        self._timeout = settings.timeout
        self._clock = clock or SystemClock()
        self._down_since: float | None = None
        self._retry_at = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._abandoned: set[AsyncConnection] = set()
        self.is_postgres = settings.is_postgres
        self.schema_name = settings.schema_name
        if self.is_postgres:
            self._address = f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}"
        else:
            self._address = str(url.database)
            create_file(url)
        self._engine = _create_engine(url, settings)

    @asynccontextmanager
    async def begin(self, *, read_only: bool = False) -> AsyncIterator[Connection]:
        """Begin a transaction: committed at the end, rolled back by an exception.

        Raises StoreUnavailable. If that happens at the end, the changes may have been made: the
        reply can be lost.
        """
        raw = await self._open(read_only=read_only)
        is_done = False
        try:
            yield Connection(self, raw)
            if not read_only:
                await self.wait(raw, raw.commit())
            is_done = True
        finally:
            await self._close(raw, is_done=is_done)

    async def wait(self, raw: AsyncConnection, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Wait for a call of this connection; raises StoreUnavailable and IntegrityError.

        If it takes too long, the connection is given up: a driver waits for the server to confirm
        that a statement has been cancelled, which a frozen one never does.
        """
        if raw in self._abandoned:
            work.close()
            raise StoreUnavailable(self._describe("the connection was lost"))
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._timeout)
        except asyncio.CancelledError:
            self._abandon(raw, task)
            raise
        if not done:
            self._abandon(raw, task)
            raise StoreUnavailable(self._describe(f"no reply within {self._timeout:g} s"))
        try:
            return task.result()
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(self._describe(describe_error(error))) from error

    async def aclose(self) -> None:
        """Close all connections; never raises."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self._timeout)
        with suppress(SQLAlchemyError, OSError):
            await self._engine.dispose()

    async def _open(self, *, read_only: bool) -> AsyncConnection:
        now = self._clock.monotonic()
        if self._down_since is not None:
            if now < self._retry_at:
                raise StoreUnavailable(self._describe("it was unavailable a moment ago"))
            self._retry_at = now + RETRY_SECONDS
        raw = self._engine.connect()
        try:
            await self.wait(raw, self._start(raw, read_only=read_only))
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, PoolTimeout):
                self._report_outage(error)
            await self._close(raw, is_done=True)
            raise
        if self._down_since is not None:
            seconds = round(self._clock.monotonic() - self._down_since, 1)
            self._down_since = None
            _log.info("the database is available again", address=self._address, seconds=seconds)
        return raw

    async def _start(self, raw: AsyncConnection, *, read_only: bool) -> None:
        await raw.start()
        if not self.is_postgres:
            await raw.execution_options(**{_READ_ONLY: read_only})
        elif read_only:
            await raw.execution_options(isolation_level="AUTOCOMMIT")
        else:  # for this transaction only: a pooler gives the connection to others afterwards
            await raw.exec_driver_sql(
                f"SET LOCAL statement_timeout = {round(self._timeout * 1000)};"
                f"SET LOCAL idle_in_transaction_session_timeout = {_MAX_IDLE_SECONDS * 1000}"
            )

    async def _close(self, raw: AsyncConnection, *, is_done: bool) -> None:
        if not is_done and raw not in self._abandoned:
            with suppress(StoreUnavailable):
                await self.wait(raw, raw.rollback())
        if raw not in self._abandoned:
            with suppress(StoreUnavailable):
                await self.wait(raw, raw.close())

    def _abandon(self, raw: AsyncConnection, task: asyncio.Task[Any]) -> None:
        self._abandoned.add(raw)
        task.cancel()
        closing = asyncio.create_task(self._discard(raw, task))
        self._tasks.add(closing)
        closing.add_done_callback(self._tasks.discard)

    async def _discard(self, raw: AsyncConnection, task: asyncio.Task[Any]) -> None:
        """Close an abandoned connection once its call has ended."""
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        with suppress(SQLAlchemyError, OSError):
            await raw.invalidate()
        with suppress(SQLAlchemyError, OSError):
            await raw.close()
        self._abandoned.discard(raw)

    def _report_outage(self, error: StoreUnavailable) -> None:
        now = self._clock.monotonic()
        self._retry_at = now + RETRY_SECONDS
        if self._down_since is None:
            self._down_since = now
            _log.warning("the database is unavailable", address=self._address, error=str(error))

    def _describe(self, reason: str) -> str:
        return f"the database at {self._address} is unavailable: {reason}"


def _create_engine(url: URL, settings: DatabaseSettings) -> AsyncEngine:
    arguments: dict[str, Any] = {
        "pool_size": settings.pool_size,
        "max_overflow": 0,
        "pool_timeout": settings.timeout * 0.9,  # before `wait`, which would suspect an outage
        "hide_parameters": True,  # digests and e-mail addresses
        "connect_args": connect_arguments(settings),
    }
    if settings.is_postgres:
        return _create_postgres_engine(url, settings, arguments)
    engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"), **arguments)
    event.listen(engine.sync_engine, "connect", prepare_sqlite)
    _follow_file(engine, str(url.database))

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        # A reader that becomes a writer would fail at once if another one has written meanwhile.
        mode = "" if connection.get_execution_options().get(_READ_ONLY) else " IMMEDIATE"
        connection.exec_driver_sql(f"BEGIN{mode}")

    return engine


def _follow_file(engine: AsyncEngine, path: str) -> None:
    """Leave a file that was deleted or replaced, where changes would be lost; never create one."""

    def identify() -> tuple[int, int]:
        status = os.stat(path)  # noqa: PTH116
        return status.st_dev, status.st_ino

    @event.listens_for(engine.sync_engine, "do_connect")
    def require_file(*_: Any) -> None:
        identify()

    @event.listens_for(engine.sync_engine, "connect")
    def remember(_: Any, record: Any) -> None:
        record.info["file"] = identify()

    @event.listens_for(engine.sync_engine, "checkout")
    def compare(_: Any, record: Any, *_more: Any) -> None:
        if record.info["file"] != identify():
            raise DisconnectionError


def _create_postgres_engine(
    url: URL, settings: DatabaseSettings, arguments: dict[str, Any]
) -> AsyncEngine:
    with requires_extra("database.url", "postgres"):
        engine = create_async_engine(
            url,
            pool_pre_ping=True,  # after an outage, the first call succeeds
            execution_options={"schema_translate_map": {None: settings.schema_name}},
            **arguments,
        )

    @event.listens_for(engine.sync_engine, "handle_error")
    def check(context: Any) -> None:
        # After a failover, connections lead to what is a standby now: replace all.
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY_ERROR:
            context.is_disconnect = True

    return engine
