"""The URL of an OpenAI-compatible server, as users write it.

Users copy it from clients and other tools: with or without `http://`, ending in `/v1`, or as the
URL of one endpoint.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from maxgate.errors import ConfigurationError

_DEFAULT_PORT: Final = 8000
_ENDPOINTS: Final = re.compile(
    r"(/v1)?(/chat/completions|/completions|/embeddings|/responses|/models|/health|/metrics)?/*\Z"
)
_CREDENTIALS: Final = re.compile(r"//[^/?#\s]*@")
_SECRET_PARAMETERS: Final = re.compile(
    r"(?i)([?&][^=&#\s]*(?:key|token|secret|sig)[^=&#\s]*=)[^&#\s]+"
)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """One server; `path` is the part before `/v1/...`, without a slash at its end."""

    host: str
    port: int
    tls: bool
    path: str
    user: str | None = None
    password: str | None = None

    @property
    def authority(self) -> str:
        """Host and port, as in the `host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without user, password and query."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"


def parse_server_url(text: str, flag: str = "--url") -> ServerUrl:
    """Parse `host:port`, `http://host:port`, or either with a path that ends in an endpoint.

    Raises ConfigurationError, which starts with the flag, for anything else.
    """
    shown = f"{flag} {hide_credentials(text)}"
    text = text.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{shown}: {error}") from error
    valid_host = parts.hostname and not re.search(r"[\s/\\]", parts.hostname)
    if parts.scheme not in {"http", "https"} or not valid_host or port == 0:
        raise ConfigurationError(f"{shown}: expected http://host:port or https://host")
    tls = parts.scheme == "https"
    return ServerUrl(
        host=parts.hostname or "",
        port=port or (443 if tls else 80),
        tls=tls,
        path=_ENDPOINTS.sub("", parts.path).rstrip("/"),
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


def hide_credentials(text: str) -> str:
    """The text without user names, passwords and keys in its URLs."""
    return _SECRET_PARAMETERS.sub(r"\1***", _CREDENTIALS.sub("//", text))


def join_host_and_port(arguments: Sequence[str]) -> list[str]:
    """Replace --host and --port by --url; a bare host gets the port 8000, as in vLLM.

    Raises ConfigurationError if one of them has no value, or the port is not a number.
    """
    found: dict[str, str] = {}
    left = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        name, separator, value = argument.partition("=")
        if name not in {"--host", "--port"}:
            left.append(argument)
            continue
        if not separator and not rest:
            raise ConfigurationError(f"{name} needs a value")
        found[name] = value if separator else rest.pop(0)
    if not found:
        return left
    host, port = found.get("--host", "localhost"), found.get("--port")
    if port is not None and not port.isdecimal():
        raise ConfigurationError(f"--port {port}: expected a number")
    if port is None and re.fullmatch(r"[^:/]+|\[[^\]]*\]", host):
        port = str(_DEFAULT_PORT)
    return [*left, "--url", host if port is None else f"{host}:{port}"]
