"""Changes of the organization: each is one transaction with its entries in the audit log."""

import hmac
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeVar

from maxgate.auth.api_key import PREFIX, generate_key, hash_key, redact
from maxgate.auth.key_changes import KeyChangePublisher, NoKeyChanges
from maxgate.auth.organization.errors import (
    DatabaseUnavailable,
    IdempotencyKeyReused,
    PreconditionFailed,
    RequestInProgress,
)
from maxgate.auth.pepper import fingerprint_pepper
from maxgate.clock import Clock
from maxgate.errors import Conflict, InvalidRequest, NotFound
from maxgate.stores.identity import (
    AlreadyExists,
    AuditEvent,
    IdempotentRequest,
    IdentityStore,
    IdentityTransaction,
    Project,
    Rows,
    StoreUnavailable,
    UnknownCursor,
    VersionConflict,
)

MAX_NAME_LENGTH: Final = 200

_SALT_BYTES: Final = 16
_DIGEST_MARK: Final = "key with the digest "
# Control characters, and lone surrogates, which no database stores.
_UNUSABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change: the id of a key, or `cli`, and the address of the client."""

    id: str
    address: str | None = None


COMMAND_LINE: Final = Actor("cli")


class Idempotency(NamedTuple):
    """The Idempotency-Key of a request, and the hash of the request itself."""

    key: str
    fingerprint: bytes


class NewKey(NamedTuple):
    """A key that has just been generated; `text` is shown once and kept nowhere."""

    text: str
    digest: bytes
    redacted: str


class Change:
    """A transaction in progress; `now` is its time in Unix seconds.

    `replay` is the response to an earlier request with the same Idempotency-Key; then nothing is
    to be done. Otherwise set `response`, which is kept without keys.
    """

    def __init__(
        self,
        rows: IdentityTransaction,
        actor: Actor,
        now: int,
        pepper: bytes,
        seed: bytes | None,
    ) -> None:
        self.rows = rows
        self.actor = actor
        self.now = now
        self.changed_ids = set[str]()
        self.replay: dict[str, Any] | None = None
        self.response: dict[str, Any] | None = None
        self.new_key: NewKey | None = None
        self._pepper = pepper
        self._seed = seed

    def generate_key(self) -> NewKey:
        """Generate a key; a repetition of the same request would get the same one."""
        text = generate_key(self._seed)
        self.new_key = NewKey(text, hash_key(text, self._pepper), redact(text))
        return self.new_key

    async def record(
        self, event: str, row_id: str, project: Project | None = None, /, **details: Any
    ) -> None:
        """Record a change of the row with this id in the audit log."""
        self.changed_ids.add(row_id)
        await self.rows.add_audit_event(
            AuditEvent(
                id=create_id("audit_log-"),
                type=event,
                effective_at=self.now,
                actor_id=self.actor.id,
                actor_address=self.actor.address,
                project_id=None if project is None else project.id,
                project_name=None if project is None else project.name,
                details={"id": row_id, **details},
            )
        )


class Organization:
    """Reads and changes what the store keeps; the functions of this package have the rules."""

    def __init__(
        self,
        store: IdentityStore,
        load_peppers: Callable[[], Sequence[bytes]],
        clock: Clock,
        key_changes: KeyChangePublisher | None = None,
    ) -> None:
        self._store = store
        self._load_peppers = load_peppers
        self._clock = clock
        self._key_changes = key_changes or NoKeyChanges()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[IdentityTransaction]:
        """Begin a transaction that only reads; raises DatabaseUnavailable and InvalidRequest."""
        with translate_errors():
            async with self._store.transaction() as rows:
                yield rows

    @asynccontextmanager
    async def change(
        self, actor: Actor, idempotency: Idempotency | None = None
    ) -> AsyncIterator[Change]:
        """Begin a change; it is committed at the end, and then reported to other gateways.

        Raises DatabaseUnavailable, Conflict, InvalidRequest, IdempotencyKeyReused and
        RequestInProgress.
        """
        pepper, now = self._load_peppers()[0], int(self._clock.wall())
        salt = secrets.token_bytes(_SALT_BYTES)
        seed = None if idempotency is None else derive_seed(pepper, salt, idempotency.key)
        with translate_errors():
            async with self._store.transaction() as rows:
                change = Change(rows, actor, now, pepper, seed)
                if idempotency is not None:
                    change.replay = await self._find_replay(rows, actor, idempotency)
                yield change
                if change.new_key is not None:
                    await rows.add_pepper(fingerprint_pepper(pepper))
                if idempotency is not None and change.replay is None and change.response:
                    request = IdempotentRequest(
                        actor.id,
                        sha256(idempotency.key.encode()).digest(),
                        idempotency.fingerprint,
                        salt,
                        replace_text(change.response, *_describe_key(change.new_key)),
                        now,
                    )
                    try:
                        await rows.add_idempotent_request(request)
                    except AlreadyExists as error:
                        raise RequestInProgress from error
        if change.changed_ids:
            await self._key_changes.publish(change.changed_ids)

    def hash_key(self, text: str) -> list[bytes]:
        """Return the hashes under which a key may be stored, one per pepper."""
        return [hash_key(text, pepper) for pepper in self._load_peppers()]

    async def _find_replay(
        self, rows: IdentityTransaction, actor: Actor, idempotency: Idempotency
    ) -> dict[str, Any] | None:
        key_digest = sha256(idempotency.key.encode()).digest()
        found = await rows.find_idempotent_request(actor.id, key_digest)
        if found is None:
            return None
        if not hmac.compare_digest(found.fingerprint, idempotency.fingerprint):
            raise IdempotencyKeyReused
        response = dict(found.response)
        for pepper in self._load_peppers():
            text = generate_key(derive_seed(pepper, found.salt, idempotency.key))
            mark = _DIGEST_MARK + hash_key(text, pepper).hex()
            response = replace_text(response, mark, text)
        return response


def derive_seed(pepper: bytes, salt: bytes, idempotency_key: str) -> bytes:
    """Return the random part of the key that a request creates.

    A repeated request gets the same key in this way, although the key is stored nowhere.
    """
    return hmac.digest(pepper, b"idempotent key\0" + salt + idempotency_key.encode(), "sha256")


def _describe_key(key: NewKey | None) -> tuple[str, str]:
    """Return the text of a key, and the mark that replaces it in a kept response."""
    return ("", "") if key is None else (key.text, _DIGEST_MARK + key.digest.hex())


def replace_text(value: Any, old: str, new: str) -> Any:
    """Replace each string of a JSON value that equals `old`."""
    if isinstance(value, dict):
        return {name: replace_text(item, old, new) for name, item in value.items()}
    if isinstance(value, list):
        return [replace_text(item, old, new) for item in value]
    return new if old and value == old else value


def create_id(prefix: str) -> str:
    """Return the prefix and 24 random hexadecimal digits."""
    return prefix + secrets.token_hex(12)


def check_name(name: str, param: str = "name") -> str:
    """Return the name; raises InvalidRequest for one that is empty, too long or not printable."""
    if not name or len(name) > MAX_NAME_LENGTH:
        raise InvalidRequest(
            f"'{param}' must have 1 to {MAX_NAME_LENGTH} characters, not {len(name)}.", param=param
        )
    if _UNUSABLE.search(name):
        raise InvalidRequest(f"'{param}' must not contain control characters.", param=param)
    if not any(letter.isprintable() and letter != " " for letter in name):
        raise InvalidRequest(f"'{param}' must have a visible character.", param=param)
    if PREFIX in name:
        raise InvalidRequest(f"'{param}' must not contain a key; names are shown.", param=param)
    return name


def require(row: Row | None, kind: str, row_id: str) -> Row:
    """Return the row; raises NotFound if there is none."""
    if row is None:
        raise NotFound(f"No {kind} with the id {row_id[:100]!r} exists.", code="not_found")
    return row


def check_version(version: int, expected: int | None) -> None:
    """Raise PreconditionFailed if the version in If-Match is not the stored one."""
    if expected is not None and version != expected:
        raise PreconditionFailed


async def remove(rows: Rows[Row], row: Row, *key: str) -> None:
    """Delete a row that was read; raises VersionConflict if it was changed meanwhile."""
    await rows.update(row)
    await rows.delete(*key)


@contextmanager
def translate_errors() -> Any:
    """Turn the errors of the store into responses."""
    try:
        yield
    except StoreUnavailable as error:
        raise DatabaseUnavailable from error
    except VersionConflict as error:
        raise Conflict("The object was changed at the same time. Read it again.") from error
    except AlreadyExists as error:
        raise Conflict("An object with these values exists already.") from error
    except UnknownCursor as error:
        raise InvalidRequest(
            "'after' and 'before' must be ids of objects of the list, or of ones that were deleted "
            "in the last 7 days. Begin the list anew.",
            param="after",
        ) from error
