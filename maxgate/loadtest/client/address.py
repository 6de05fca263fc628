"""The address of a server under test, and the head of the requests to it."""

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maxgate.errors import ConfigurationError
from maxgate.net.server_url import ServerUrl, parse_server_url


@dataclass(frozen=True)
class Trust:
    """The certificates that are accepted: those of the system, and those of a file."""

    cacert: str | None = None
    insecure: bool = False
    """Whether to accept any certificate."""

    def create_context(self) -> ssl.SSLContext:
        """A context for clients. Raises ConfigurationError for an unreadable file.

        The system's certificates follow the variables SSL_CERT_FILE and SSL_CERT_DIR.
        """
        context = ssl.create_default_context()
        if self.cacert is not None:
            try:
                context.load_verify_locations(Path(self.cacert))
            except (OSError, ssl.SSLError) as error:
                reason = error.strerror or str(error)
                raise ConfigurationError(
                    f"--cacert {self.cacert}: no certificates in PEM format: {reason}"
                ) from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def build_head(
    server: ServerUrl, headers: Mapping[str, str], path: str = "/v1/chat/completions"
) -> bytes:
    """The head of a POST without `content-length`, `x-request-id` and the empty line."""
    lines = [
        f"POST {server.path}{path} HTTP/1.1",
        f"host: {server.authority}",
        "content-type: application/json",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "".join(line + "\r\n" for line in lines).encode()


def parse_address(url: str, flag: str = "--url") -> tuple[ServerUrl, dict[str, str]]:
    """The server, and the header for the user and password in its URL, if any.

    Raises ConfigurationError.
    """
    server = parse_server_url(url, flag)
    if server.user is None:
        return server, {}
    credentials = f"{server.user}:{server.password or ''}".encode()
    return server, {"authorization": f"Basic {base64.b64encode(credentials).decode()}"}
