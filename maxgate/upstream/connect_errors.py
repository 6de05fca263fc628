"""Translate exceptions of sockets, TLS and httpx."""

import socket
import ssl
from typing import Final

import httpx

from maxgate.errors import GatewayError
from maxgate.net.shortage import find_shortage, list_causes
from maxgate.upstream.errors import (
    ConnectionsInUse,
    EngineDisconnected,
    EngineUnreachable,
    engine_timeout,
)

CONNECTION_REFUSED: Final = "connection refused"
"""The cause if no process listens on the port."""


def describe_connect_error(error: BaseException) -> str | None:
    """Return why no connection could be opened, in a few words, or None if that is unknown."""
    for found in list_causes(error):
        match found:
            case ssl.SSLCertVerificationError():
                return f"TLS certificate not trusted: {found.verify_message}"
            case ssl.SSLError():
                reason = getattr(found, "reason", "unknown")
                return f"TLS failed ({reason}); does the engine speak HTTPS?"
            case socket.gaierror():
                return f"unknown host ({found.strerror})"
            case OSError() if "refused" in str(found) or "Errno 111" in str(found):
                return CONNECTION_REFUSED
            case OSError(strerror=str(text)) if text:
                return text
    return None


def map_httpx_error(error: httpx.HTTPError, *, responding: bool) -> GatewayError:
    """Translate an exception of httpx; `responding` means that the response has begun."""
    if not responding and (shortage := find_shortage(error)) is not None:
        return shortage
    match error:
        case httpx.ConnectError():
            return EngineUnreachable("refused", describe_connect_error(error))
        case httpx.ConnectTimeout():
            return EngineUnreachable("connect_timeout")
        case httpx.PoolTimeout():
            return ConnectionsInUse()
        case httpx.TimeoutException():
            return engine_timeout()
        case _:
            return EngineDisconnected() if responding else EngineUnreachable("disconnect")
