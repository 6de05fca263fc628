"""The address of a server under test, and the head of the requests to it."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from maxgate.errors import ConfigurationError


@dataclass(frozen=True)
class Address:
    """One server; `base` is the path before `/v1/...`."""

    host: str
    port: int
    tls: bool
    base: str

    @property
    def url(self) -> str:
        """The URL without user, query and fragment."""
        return f"{'https' if self.tls else 'http'}://{self._authority}{self.base}"

    @property
    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def create_tls_context(self) -> ssl.SSLContext | None:
        """A context with the system's certificates; None for plain HTTP."""
        return ssl.create_default_context() if self.tls else None

    def build_head(self, headers: Mapping[str, str], path: str = "/v1/chat/completions") -> bytes:
        """The head of a POST without `content-length`, `x-request-id` and the empty line."""
        lines = [
            f"POST {self.base}{path} HTTP/1.1",
            f"host: {self._authority}",
            "content-type: application/json",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "".join(line + "\r\n" for line in lines).encode()


def parse_address(url: str) -> Address:
    """Parse `http://host:port`, with an optional path that may end in `/v1`.

    Raises ConfigurationError for anything else.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"--url {url}: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(f"--url {url}: expected http://host:port or https://host")
    base = parts.path.rstrip("/").removesuffix("/v1")
    tls = parts.scheme == "https"
    return Address(parts.hostname, port or (443 if tls else 80), tls, base)
