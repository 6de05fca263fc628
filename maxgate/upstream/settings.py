import re
import ssl
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from maxgate.settings_section import Section

_CREDENTIALS: Final = re.compile(r"//[^/?#]*@")


class ReplicaSettings(BaseModel):
    """One item of `engines`; a plain string is its URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False)
    """Base URL of the engine, with or without `/v1`; may have `user:password@` for Basic access."""
    ca_file: Path | None = None
    """File with the CA certificates to trust for this engine, in PEM; by default the system's."""

    @property
    def public_url(self) -> str:
        """The URL without its credentials."""
        return hide_credentials(self.url)

    @model_validator(mode="before")
    @classmethod
    def _accept_url(cls, value: Any) -> Any:
        if not isinstance(value, str | dict | ReplicaSettings):
            raise ValueError("Input should be a URL or {url: ...}")  # noqa: TRY004  # pydantic
        return {"url": value} if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            is_http = parts.scheme in {"http", "https"} and parts.port != 0
        except ValueError:  # an invalid port
            is_http = False
        if not is_http or not parts.hostname or any(character.isspace() for character in url):
            shown = hide_credentials(url)
            raise ValueError(f"{shown!r} is not a URL; write http://host:port")
        if parts.netloc.count("@") > 1:
            raise ValueError("credentials with a literal @; write %40 for it")
        # Clients of OpenAI's API are configured with /v1; the gateway adds it itself.
        return url.rstrip("/").removesuffix("/v1").rstrip("/")

    @model_validator(mode="after")
    def _check_ca_file(self) -> Self:
        if self.ca_file is not None:
            if not self.url.startswith("https:"):
                raise ValueError("ca_file needs a URL that starts with https://")
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:  # ssl.SSLError is one
                reason = error.strerror or "no certificates in PEM format"
                raise ValueError(f"ca_file {str(self.ca_file)!r}: {reason}") from error
        return self


class UpstreamSettings(Section):
    """Settings of the connections to engines; times in seconds."""

    connect_timeout: float = Field(default=5, gt=0)
    """Timeout for connecting to an engine."""
    first_token_timeout: float = Field(default=300, gt=0)
    """Timeout for the first token of a stream, including the time the request is queued in MAX."""
    idle_timeout: float = Field(default=60, gt=0)
    """Timeout between two tokens of a stream; comments and empty chunks do not count as tokens."""
    response_timeout: float = Field(default=600, gt=0)
    """Timeout for a whole response that is not streamed; the OpenAI SDK has the same default."""
    max_response_bytes: int = Field(default=64 * 1024 * 1024, ge=1000)
    """Maximum size of a response that is not streamed; larger ones fail with 502."""
    cancel_grace: float = Field(default=1, ge=0)
    """After a client disconnects, keep the connection to MAX open at least this long, so that MAX
    notices the cancellation."""
    keepalive_expiry: float = Field(default=60, gt=0, lt=120)
    """Seconds before an idle connection is closed; MAX closes it after 120."""
    max_connections: int = Field(default=4096, ge=1)
    """Maximum number of connections per engine and worker process; further requests get a 503."""
    max_calls_per_request: int = Field(default=32, ge=1)
    """Maximum number of concurrent engine calls per request with `n` or several prompts."""
    probe_interval: float = Field(default=5, gt=0)
    """Seconds between health checks of a healthy engine."""
    unhealthy_probe_interval: float = Field(default=1, gt=0)
    """Seconds between health checks of an unhealthy engine."""
    probe_timeout: float = Field(default=3, gt=0)
    """Timeout of a health check."""
    capability_probe_timeout: float = Field(default=15, gt=0)
    """Timeout of each capability probe sent to a newly healthy engine."""
    embedding_batch_size: int = Field(default=32, ge=1, le=2048)
    """Maximum number of inputs in one embeddings call to an engine."""
    embedding_concurrency: int = Field(default=2, ge=1, le=64)
    """Maximum number of concurrent engine calls per embeddings request."""


def hide_credentials(url: str) -> str:
    """Return the URL without user name and password."""
    return _CREDENTIALS.sub("//", url)
