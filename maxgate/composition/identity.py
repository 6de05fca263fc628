"""Builds the authentication of clients, their keys, and what the admin API changes."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from typing_extensions import override

from maxgate.api.authentication import Authentication
from maxgate.api.organization.dependencies import NoOrganization
from maxgate.api.proxies import TrustedProxies
from maxgate.auth.addresses import FailureLimit
from maxgate.auth.identity import TokenKeys, Verifier
from maxgate.auth.key_changes import KeyChangePublisher, KeyChanges, NoKeyChanges
from maxgate.auth.key_sources import KeySources
from maxgate.auth.key_verifier import KeyVerifier
from maxgate.auth.organization.changes import Organization
from maxgate.auth.token_projects import ProjectVerifier, TokenProjects
from maxgate.clock import Clock
from maxgate.composition.tasks import running
from maxgate.installation import requires_extra
from maxgate.limits.stored_limits import StoredLimits
from maxgate.settings import Settings
from maxgate.stores.identity import IdentityStore
from maxgate.telemetry.metrics_store import MetricsStore
from maxgate.telemetry.registry import (
    AUTHENTICATION_RESULT,
    AUTHENTICATIONS,
)


@dataclass(frozen=True)
class Keys:
    """The authentication of clients, their keys, and the database; None where there is none."""

    authentication: Authentication | None = None
    sources: KeySources | None = None
    identities: IdentityStore | None = None
    tokens: TokenKeys | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep keys up to date during the block; close them and the database afterwards."""
        async with AsyncExitStack() as resources:
            if self.sources is not None:
                await resources.enter_async_context(aclosing(self.sources))
                await resources.enter_async_context(running(self.sources.run()))
            if self.tokens is not None:
                await resources.enter_async_context(aclosing(self.tokens))
                self.tokens.start()
            yield

    async def refresh(self) -> None:
        """Read the keys again."""
        if self.sources is not None:
            await self.sources.refresh()


def build_keys(settings: Settings, clock: Clock, metrics: MetricsStore) -> Keys:
    """Build the authentication; raises ConfigurationError for keys that cannot be read."""
    auth = settings.auth
    if not (auth.has_keys or auth.has_jwt):
        return Keys()
    verifiers: list[Verifier] = []
    identities, sources, tokens, projects = None, None, None, None
    if auth.has_keys:
        identities = open_identities(settings, clock)
        changes = None if identities is None else build_key_changes(settings)
        if identities is not None and settings.jwt.project_claim is not None:
            requires_known = settings.jwt.require_known_project
            projects = TokenProjects(identities, clock, requires_known=requires_known)
        followers = [] if projects is None else [projects]
        sources = KeySources(auth, settings.state_dir, clock, identities, changes, followers)
        verifiers.append(KeyVerifier(sources, clock))
    if auth.has_jwt:
        with requires_extra("auth.mode jwt", "jwt"):
            from maxgate.auth.jwt_verifier import JwtAuthentication  # noqa: PLC0415  # an extra
        tokens = JwtAuthentication(settings.jwt, clock=clock)
        verifiers.append(
            tokens.verifier if projects is None else ProjectVerifier(tokens.verifier, projects)
        )
    results = AUTHENTICATION_RESULT.values or {}
    counters = {result: metrics.prepare(AUTHENTICATIONS, (result,)) for result in results}

    def count(result: str) -> None:
        counters.get(result, counters["invalid_token"])()

    authentication = Authentication(
        verifiers,
        FailureLimit(auth.max_failures, clock),
        count,
        proxies=TrustedProxies(settings.server.trusted_proxies),
        metrics_key=None if auth.metrics_key is None else auth.metrics_key.get_secret_value(),
        open_metrics=auth.open_metrics,
        open_docs=auth.open_docs,
    )
    return Keys(authentication, sources, identities, tokens)


def open_identities(settings: Settings, clock: Clock) -> IdentityStore | None:
    """Open the database of keys; None if there is none.

    Raises ConfigurationError if it cannot be used.
    """
    if not settings.database.is_enabled:
        return None
    from maxgate.auth.pepper_check import open_checked_store  # noqa: PLC0415  # slow to import

    return open_checked_store(settings.auth, settings.database, settings.state_dir, clock=clock)


def build_key_changes(settings: Settings) -> KeyChanges:
    """Build the way in which gateways report changes of keys to each other.

    Raises ConfigurationError if a package is missing.
    """
    if settings.redis.url is None:
        return NoKeyChanges()
    with requires_extra("redis.url", "redis"):
        from maxgate.auth.redis_key_changes import RedisKeyChanges  # noqa: PLC0415  # an extra
        from maxgate.stores.redis import RedisStore  # noqa: PLC0415
    return RedisKeyChanges(RedisStore(settings.redis))


class _ChangePublishers(KeyChangePublisher):
    """Reports changes to several parts of the gateway."""

    def __init__(self, publishers: Sequence[KeyChangePublisher]) -> None:
        self._publishers = publishers

    @override
    async def publish(self, ids: Collection[str]) -> None:
        for publisher in self._publishers:
            await publisher.publish(ids)


def build_organization(
    settings: Settings, keys: Keys, clock: Clock, limits: StoredLimits | None = None
) -> Organization | NoOrganization:
    """Build what the admin API reads and changes.

    Its changes take effect in `keys` and `limits` at once.
    """
    sources = keys.sources
    if sources is None:
        return NoOrganization(
            "Projects, users and keys need authentication: set auth.mode (MAXGATE_AUTH__MODE) to "
            "`keys`."
        )
    if keys.identities is None:
        return NoOrganization(
            f"Projects, users and keys need a database, and the setting database.url is "
            f"`{settings.database.url}`."
        )
    changes = sources if limits is None else _ChangePublishers([sources, limits])
    return Organization(keys.identities, lambda: sources.peppers, clock, changes)
