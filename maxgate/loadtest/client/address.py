"""Where requests go, and what they look like on the wire."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from maxgate.errors import ConfigurationError


@dataclass(frozen=True)
class Address:
    """One server. `base` is the path that comes before `/v1/...`."""

    host: str
    port: int
    tls: bool
    base: str

    @property
    def url(self) -> str:
        """The address without user, query and fragment."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{shown}:{self.port}{self.base}"

    def context(self) -> ssl.SSLContext | None:
        """For TLS, the system's certificates."""
        return ssl.create_default_context() if self.tls else None

    def head(self, headers: Mapping[str, str], path: str = "/v1/chat/completions") -> bytes:
        """A POST up to and without the length, `x-request-id` and the empty line."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        lines = [
            f"POST {self.base}{path} HTTP/1.1",
            f"host: {shown}:{self.port}",
            "content-type: application/json",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "".join(line + "\r\n" for line in lines).encode()


def parse_address(url: str) -> Address:
    """`http://host:port`, with or without a path that ends in `/v1`.

    Raises ConfigurationError with what is wrong.
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
