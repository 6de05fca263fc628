"""The caller that a credential proves, and the interfaces that verify credentials."""

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from typing_extensions import override

from maxgate.errors import Forbidden, GatewayError
from maxgate.generation.context import Principal, ProjectModels


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller and its rights.

    `models` are the names that it may use, None for all; `project_models` limit them further.
    `networks` are those from which it may send, in CIDR notation, empty for all. `expires_at` is in
    Unix seconds, None for never. `is_admin` allows the admin API, and `can_use_models` everything
    that serves models.
    """

    principal: Principal
    models: frozenset[str] | None = None
    networks: tuple[str, ...] = ()
    expires_at: float | None = None
    is_admin: bool = False
    project_models: ProjectModels | None = None
    can_use_models: bool = True


class Verifier(Protocol):
    """Verifies one kind of credential, such as API keys or JWTs."""

    def accepts(self, credential: str) -> bool:
        """Whether the credential looks like this kind; costs no more than a look at its prefix."""
        ...

    async def verify(self, credential: str) -> Identity:
        """Return the identity; raises InvalidCredential or AuthenticationUnavailable."""
        ...


class TokenKeys(Protocol):
    """The public keys of an identity provider, fetched from `start` to `aclose`."""

    def start(self) -> None:
        """Start to fetch keys; needs a running event loop."""
        ...

    async def aclose(self) -> None:
        """Stop fetching, and close the connections."""
        ...


class InvalidCredential(GatewayError):
    """The credential is missing, unknown, malformed, expired or revoked.

    `reason` is for metrics and the log; the response never says which one it was.
    """

    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"
    should_retry: ClassVar[bool | None] = False

    def __init__(self, reason: str) -> None:
        super().__init__(
            "Incorrect API key provided. Send a valid key as `Authorization: Bearer KEY`."
        )
        self.reason = reason

    @override
    def headers(self) -> dict[str, str]:
        return {**super().headers(), "www-authenticate": "Bearer"}


class TooManyFailures(GatewayError):
    """Too many credentials of this address were invalid; valid ones are still accepted."""

    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"
    # A repetition would send the same credential.
    should_retry: ClassVar[bool | None] = False

    def __init__(self, retry_after: float) -> None:
        super().__init__(
            "Too many requests with an incorrect API key came from this address. "
            "Requests with a valid key are still served.",
            retry_after=retry_after,
        )


class AuthenticationRequired(GatewayError):
    """Authentication was not configured, and the request comes from outside of this machine."""

    status = 503
    default_code = "authentication_not_configured"
    should_retry: ClassVar[bool | None] = False

    def __init__(self) -> None:
        super().__init__(
            "This gateway serves only its own machine until the setting auth.mode "
            "(MAXGATE_AUTH__MODE) is set: to `keys`, or to `none` to serve everyone."
        )


class AuthenticationUnavailable(GatewayError):
    """A credential cannot be verified at the moment, because what knows it is unreachable."""

    status = 503
    default_code = "authentication_unavailable"
    should_retry: ClassVar[bool | None] = True


class NoModelAccess(Forbidden):
    """The key is for the admin API only."""

    default_code = "insufficient_permissions"
    should_retry: ClassVar[bool | None] = False

    def __init__(self) -> None:
        super().__init__(
            "Admin keys cannot use models. Send the key of a project, such as that of a service"
            " account."
        )


class NoAdminAccess(Forbidden):
    """The key is not for the admin API."""

    default_code = "insufficient_permissions"
    should_retry: ClassVar[bool | None] = False

    def __init__(self) -> None:
        super().__init__(
            "The admin API needs the key of an admin: an admin key of the database, or an entry of"
            " keys.yaml with `admin: true`."
        )


AUTHENTICATION_ERRORS: Final = (
    InvalidCredential,
    TooManyFailures,
    AuthenticationUnavailable,
    NoModelAccess,
    NoAdminAccess,
)
"""Errors of requests that are refused before their body is read."""
