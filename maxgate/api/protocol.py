"""HTTP/1.1 below ASGI: what a client gets that does not speak it."""

import socket
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from maxgate.api.errors import error_json
from maxgate.errors import InvalidRequest

_HEAD: Final = (
    b"HTTP/1.1 400 Bad Request\r\n"
    b"content-type: application/json\r\n"
    b"content-length: %d\r\n"
    b"connection: close\r\n"
    b"\r\n"
)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Connections made through it send small pieces at once: asyncio switches Nagle's algorithm off
    only where a socket says that it is TCP, and with it on, a client waits 40 ms for each answer.

    Raises OSError where the address is taken or is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's own, except that its errors have OpenAI's shape."""

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, and close the connection: nothing after it can be trusted."""
        body = error_json(InvalidRequest(msg))
        self.transport.write(_HEAD % len(body) + body)
        self.transport.close()
