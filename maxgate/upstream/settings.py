import hashlib
import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import NoDecode

from maxgate.settings_section import Section, parse_mapping

DNS_PREFIX: Final = "dns+"
"""Prefix of URLs whose name stands for one engine per address."""
MAX_CONCURRENCY: Final = 1_000_000
_CREDENTIALS: Final = re.compile(r"//[^/?#]*@")
# Also where text that is not a URL may have credentials, such as `user:pass/word@gpu-1`.
_MAYBE_CREDENTIALS: Final = re.compile(r"^(.*?//)?.*@", re.DOTALL)
_MAX_SHOWN: Final = 200


class ReplicaSettings(BaseModel):
    """One item of `engines`; a plain string is its URL."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(repr=False)
    """Base URL of the engine, with or without `/v1`; may have `user:password@` for Basic access.

    With `dns+` in front, each address of the name is an engine.
    """
    models: list[str] | None = Field(default=None, min_length=1)
    """Models to serve from this engine, by the engine's names; by default all that it lists."""
    weight: float = Field(default=1, gt=0, le=1000, allow_inf_nan=False)
    """Share of the load relative to the other engines."""
    max_concurrency: int | None = Field(default=None, ge=1, le=MAX_CONCURRENCY)
    """Requests at once above which other engines are preferred."""
    metrics_url: str | None = None
    """URL of the engine's metrics, such as `http://gpu-1:8001/metrics`."""
    ca_file: Path | None = None
    """File with the CA certificates to trust for this engine, in PEM; by default the system's."""

    @property
    def id(self) -> str:
        """The engine's id in the admin API; addresses of a `dns+` name have ids of their own."""
        return derive_id(self.public_url)

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
        check_url(url, url.removeprefix(DNS_PREFIX), "http://host:port")
        if "?" in url or "#" in url:
            raise ValueError("a base URL has no query and no fragment; write http://host:port")
        # Clients of OpenAI's API are configured with /v1; the gateway adds it itself.
        return url.rstrip("/").removesuffix("/v1").rstrip("/")

    @field_validator("metrics_url")
    @classmethod
    def _check_metrics_url(cls, url: str | None) -> str | None:
        if url is not None:
            check_url(url, url, "http://host:port/metrics")
        return url

    @model_validator(mode="after")
    def _check_ca_file(self) -> Self:
        if self.ca_file is not None:
            if not self.url.removeprefix(DNS_PREFIX).startswith("https:"):
                raise ValueError("ca_file needs a URL that starts with https://")
            shown = str(self.ca_file)[:_MAX_SHOWN]
            try:
                # Reading a device or a pipe may never end.
                if self.ca_file.exists() and not self.ca_file.is_file():
                    raise ValueError(f"ca_file {shown!r}: not a regular file")
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:  # ssl.SSLError is one
                reason = error.strerror or "no certificates in PEM format"
                raise ValueError(f"ca_file {shown!r}: {reason}") from error
        return self


class BreakerSettings(Section):
    """Settings of the circuit breakers, one per engine and model; times in seconds."""

    consecutive_failures: int = Field(default=5, ge=1)
    """Failures in a row after which an engine gets no requests."""
    failure_share: float = Field(default=0.5, gt=0, le=1)
    """Share of failed responses within `window` above which an engine gets no requests."""
    min_responses: int = Field(default=20, ge=1)
    """Minimum number of responses for `failure_share`."""
    window: float = Field(default=10, gt=0)
    """Time over which the share of failures is measured."""
    open_seconds: float = Field(default=2, gt=0)
    """Time without requests until a trial request; doubled each time the engine fails again."""
    max_open_seconds: float = Field(default=30, gt=0)
    """Maximum time without requests."""
    trials: int = Field(default=3, ge=1)
    """Complete responses after which a recovering engine gets all its requests again."""
    flapping_window: float = Field(default=60, ge=0)
    """An engine that fails within this time after its recovery is out for twice as long."""


class RetrySettings(Section):
    """Settings of retries, which move a request to another engine."""

    budget_share: float = Field(default=0.2, ge=0, le=1)
    """Retries allowed per model, as a share of all workers' requests of the last 10 seconds."""
    budget_minimum: float = Field(default=3, ge=0)
    """Retries per second and model that are always allowed, of all workers together."""


class SlownessSettings(Section):
    """When an engine counts as too slow; only where another engine serves the model."""

    deadline_factor: float = Field(default=3, ge=0)
    """A request moves to another engine after this multiple of the model's recent P99 time to
    first token; 0 turns it off."""
    min_deadline: float = Field(default=1, ge=0)
    """Minimum of that time, in seconds."""
    min_samples: int = Field(default=50, ge=2)
    """Recent responses needed for that time."""
    outlier_factor: float = Field(default=3, ge=0)
    """An engine is ejected if its median latency is this multiple of its slowest peer's; 0 turns
    it off."""
    min_latency: float = Field(default=0.05, ge=0)
    """Latencies of peers below this, in seconds, count as this much; times per token as a tenth."""
    min_replica_samples: int = Field(default=10, ge=2)
    """Recent responses of an engine and of its peers needed to eject it."""
    max_ejected_share: float = Field(default=0.5, ge=0, le=1)
    """Maximum share of a model's engines that are ejected for slowness at once."""


class ContinuationSettings(Section):
    """Settings of streams that go on at another engine when theirs fails."""

    attempts: int = Field(default=5, ge=0)
    """Maximum number of times a stream is moved after its first token; 0 turns it off."""
    restart_window: float = Field(default=30, ge=0)
    """Seconds that such a stream or a request whose engine died waits for an engine to restart."""


PolicyName = Literal["least_loaded", "prefix_affinity", "session"]


_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")


class RoutingSettings(Section):
    """How one of several engines is chosen for a request."""

    policy: PolicyName = "least_loaded"
    """How an engine is chosen: by load, by the cached beginning of the prompt, or by session."""
    models: Annotated[dict[str, PolicyName], NoDecode, BeforeValidator(parse_mapping)] = Field(
        default={}
    )
    """Policies of single models, by the names under which engines list them; JSON in variables."""
    session_header: str = "X-Session-Id"
    """Request header that names a session; without it, `user` of the request body does."""
    block_size: int = Field(default=128, ge=1)
    """Tokens per block of MAX's prefix cache, for `prefix_affinity`."""
    max_blocks: int = Field(default=65536, ge=1)
    """Blocks remembered by each worker process for `prefix_affinity`; 250 bytes each."""
    load_factor: float = Field(default=1.25, gt=1)
    """Maximum load of an engine as a multiple of the average, above which affinity yields."""
    kv_pressure_factor: float = Field(default=2, ge=1, le=100)
    """Weight in the load of requests at an engine whose KV cache is full; 1 turns it off."""

    @field_validator("session_header")
    @classmethod
    def _check_header(cls, name: str) -> str:
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header")
        return name


class FailoverSettings(BaseModel):
    """The sections that decide what happens when engines fail."""

    model_config = ConfigDict(frozen=True)

    breaker: BreakerSettings = BreakerSettings()
    retries: RetrySettings = RetrySettings()
    slowness: SlownessSettings = SlownessSettings()
    continuation: ContinuationSettings = ContinuationSettings()


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
    metrics_interval: float = Field(default=1, ge=0)
    """Seconds between readings of an engine's own metrics by each worker; 0 turns them off."""
    discover_metrics: bool = True
    """Try the port after that of an engine without `metrics_url`, where MAX exports metrics."""
    dns_interval: float = Field(default=5, gt=0)
    """Seconds between lookups of the names of `dns+http://` engines."""
    embedding_batch_size: int = Field(default=32, ge=1, le=2048)
    """Maximum number of inputs in one embeddings call to an engine."""
    embedding_concurrency: int = Field(default=2, ge=1, le=64)
    """Maximum number of concurrent engine calls per embeddings request."""


def check_url(url: str, without_prefix: str, example: str) -> None:
    """Raise ValueError, without credentials, unless this is an absolute HTTP URL."""
    try:
        parts = urlsplit(without_prefix)
        is_http = parts.scheme in {"http", "https"} and parts.port != 0 and bool(parts.hostname)
        (parts.hostname or "").encode("idna")  # as for its lookup
    except ValueError:  # an invalid port, IPv6 address or name
        is_http = False
    # urlsplit drops line breaks and keeps other control characters and backslashes.
    if not is_http or "\\" in url or not url.isprintable() or " " in url:
        shown = _MAYBE_CREDENTIALS.sub(r"\1", url)[:_MAX_SHOWN]
        raise ValueError(f"{shown!r} is not a URL; write {example}")
    if parts.netloc.count("@") > 1:
        raise ValueError("credentials with a literal @; write %40 for it")


def derive_id(public_url: str) -> str:
    """Return the id of the engine at this URL, which has no credentials."""
    return hashlib.sha256(public_url.encode()).hexdigest()[:8]


def hide_credentials(url: str) -> str:
    """Return the URL without user name and password."""
    return _CREDENTIALS.sub("//", url)
