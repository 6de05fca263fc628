"""The caller that a credential proves, and the interfaces by which credentials are verified."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from maxgate.errors import GatewayError
from maxgate.generation.context import Principal


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller and its rights.

    `models` are the names that it may use, None for all. `networks` are those from which it may
    send, in CIDR notation, empty for all. `expires_at` is in Unix seconds, None for never.
    """

    principal: Principal
    models: frozenset[str] | None = None
    networks: tuple[str, ...] = ()
    expires_at: float | None = None


class Verifier(Protocol):
    """Verifies one kind of credential, such as API keys or JWTs."""

    def accepts(self, credential: str) -> bool:
        """Whether the credential looks like this kind; costs no more than a look at its prefix."""
        ...

    async def verify(self, credential: str) -> Identity:
        """Return the identity; raises InvalidCredential or AuthenticationUnavailable."""
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


class AuthenticationUnavailable(GatewayError):
    """A credential cannot be verified at the moment, because what knows it is unreachable."""

    status = 503
    default_code = "authentication_unavailable"
    should_retry: ClassVar[bool | None] = True
