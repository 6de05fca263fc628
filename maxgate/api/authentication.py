"""Authenticates requests by their headers, before their body is read."""

import asyncio
import hmac
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog
from starlette.types import Receive, Scope

from maxgate.api.proxies import TrustedProxies
from maxgate.auth.addresses import FailureLimit, is_within
from maxgate.auth.identity import (
    AuthenticationUnavailable,
    Identity,
    InvalidCredential,
    NoModelAccess,
    TooManyFailures,
    Verifier,
)
from maxgate.generation.context import RequestContext

AUTHORIZATION: Final = b"authorization"
_KEY_HEADERS: Final = (b"api-key", b"x-api-key")
CREDENTIAL_HEADERS: Final = frozenset({AUTHORIZATION, *_KEY_HEADERS})
"""Headers that hold credentials: OpenAI's, Azure's and Anthropic's."""

PROBES: Final = frozenset({"/health/live", "/health/ready"})
CREDENTIAL_CHECK: Final = "/auth"
METRICS: Final = frozenset({"/health", "/metrics", "/metrics/vllm"})
DOCS: Final = frozenset({"/docs", "/openapi.json"})
DOCS_ASSETS: Final = "/docs/assets/"
MODEL_SEGMENTS: Final = frozenset({"chat", "completions", "embeddings", "models", "moderations"})
"""First segments of the paths that serve models, with and without `/v1`."""

_SCHEME: Final = b"bearer "
_MAX_DRAINED_BYTES: Final = 64_000_000
_DRAIN_TIMEOUT: Final = 30.0

_log = structlog.get_logger("auth")


class Authentication:
    """Requires a valid credential of every request, but those for open paths.

    Every path of the gateway and of programs that embed it is protected, unknown ones included.
    `metrics_key` is accepted for the paths of METRICS only, where it reads everything.
    `count` gets the result of each authentication: `accepted`, `limited`, `unavailable`, or the
    reason of InvalidCredential.
    """

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        failures: FailureLimit,
        count: Callable[[str], None],
        *,
        proxies: TrustedProxies | None = None,
        metrics_key: str | None = None,
        open_metrics: bool = False,
        open_docs: bool = False,
    ) -> None:
        self._verifiers = verifiers
        self._failures = failures
        self._count = count
        self._proxies = proxies or TrustedProxies()
        self._metrics_key = None if metrics_key is None else metrics_key.encode()
        self._open = PROBES | (METRICS if open_metrics else set()) | (DOCS if open_docs else set())
        self._has_open_docs = open_docs

    def is_open(self, path: str) -> bool:
        """Whether everyone may request this path, as routes see it."""
        return path in self._open or (self._has_open_docs and path.startswith(DOCS_ASSETS))

    async def authenticate(self, scope: Scope, path: str, headers: Mapping[bytes, bytes]) -> None:
        """Fill in the caller and its rights in the request's context.

        `path` is as routes see it. `headers` holds those of CREDENTIAL_HEADERS that the request
        has, joined by `, `.

        Raises AUTHENTICATION_ERRORS.
        """
        context: RequestContext = scope["state"]["context"]
        if path in METRICS and self._has_metrics_key(headers):
            self._count("accepted")
            context.is_admin, context.reads_metrics = False, True
            return
        if self.is_open(path):
            return
        try:
            identity = await self._identify(find_credential(headers), scope)
        except InvalidCredential as error:
            self._refuse(error, self._proxies.find_address(scope), context)
        except AuthenticationUnavailable:
            self._count("unavailable")
            raise
        else:
            self._count("accepted")
            context.principal = identity.principal
            context.models = identity.models
            context.project_models = identity.project_models
            context.is_admin = identity.is_admin
            context.record.key_id = identity.principal.key_id
            if not identity.can_use_models and (path == CREDENTIAL_CHECK or serves_models(path)):
                raise NoModelAccess

    def _has_metrics_key(self, headers: Mapping[bytes, bytes]) -> bool:
        if self._metrics_key is None:
            return False
        try:
            credential = find_credential(headers)
        except InvalidCredential:
            return False
        return hmac.compare_digest(credential.encode(), self._metrics_key)

    async def _identify(self, credential: str, scope: Scope) -> Identity:
        identity = await self._find_verifier(credential).verify(credential)
        if identity.networks:
            address = self._proxies.find_address(scope)
            if not is_within(identity.networks, address):
                raise InvalidCredential("wrong_network")
        return identity

    def _find_verifier(self, credential: str) -> Verifier:
        for verifier in self._verifiers:
            if verifier.accepts(credential):
                return verifier
        raise InvalidCredential("malformed")

    def _refuse(self, error: InvalidCredential, address: str, context: RequestContext) -> None:
        """Raise the error of the response to an invalid credential, and log its reason."""
        retry_after = self._failures.add(address)
        if retry_after is not None:  # without a line: attackers must not fill the disk
            self._count("limited")
            raise TooManyFailures(retry_after) from None
        self._count(error.reason)
        record = context.record
        # Routes such as /auth have no request record in use from which the log takes these ids.
        ids = {"request_id": record.request_id}
        if record.trace is not None:
            ids["trace_id"] = record.trace.hex_id
        _log.info("authentication failed", reason=error.reason, client=address, **ids)
        raise error from None


def serves_models(path: str) -> bool:
    """Whether requests for this path use models or list them."""
    segments = path.split("/")
    first = segments[2:3] if segments[1:2] == ["v1"] else segments[1:2]
    return not MODEL_SEGMENTS.isdisjoint(first)


def find_credential(headers: Mapping[bytes, bytes]) -> str:
    """Return the credential of a request; if several headers have one, they must be equal.

    Raises InvalidCredential.
    """
    found: bytes | None = None
    if (value := headers.get(AUTHORIZATION)) is not None:
        if value[: len(_SCHEME)].lower() != _SCHEME:
            is_empty = value.strip().lower() in {b"", b"bearer"}
            raise InvalidCredential("missing" if is_empty else "malformed")
        found = value[len(_SCHEME) :].strip(b" ")
    for name in _KEY_HEADERS:
        if (value := headers.get(name)) is not None:
            if found is not None and found != value:
                raise InvalidCredential("ambiguous")
            found = value
    if not found:
        raise InvalidCredential("missing")
    try:
        return found.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidCredential("malformed") from None


async def drain_body(scope: Scope, receive: Receive) -> None:
    """Discard the body of a request that has its response.

    A connection that is closed with unread data is reset, and clients that are still sending would
    lose the response.
    """
    if not any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in scope["headers"]
    ):
        return
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_TIMEOUT):
            while size < _MAX_DRAINED_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
