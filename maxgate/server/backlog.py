"""Connections that no worker accepts, at the end of a listening socket above all, get a 503."""

import ctypes
import select
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Final

from maxgate.api.errors import encode_error, error_headers
from maxgate.errors import GatewayError, ShuttingDown

_SO_ATTACH_FILTER: Final = 26  # Linux
_HANDSHAKE_TIMEOUT: Final = 0.1
_CLIENT_TIMEOUT: Final = 1.0
# Classic BPF (linux/filter.h) on the TCP header: drop packets with SYN and without ACK.
_DROP_NEW_CONNECTIONS: Final = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN only?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # accept
)


class BacklogRefuser:
    """Responds with 503 to the connections in the backlog of a listening socket.

    Each has a thread for up to 2 seconds, so that slow clients delay nobody. They get `error`, and
    ShuttingDown from `close` on.
    """

    def __init__(self, listener: socket.socket, error: GatewayError | None = None) -> None:
        self._listener = listener
        self._error = error or ShuttingDown()
        self._threads: list[threading.Thread] = []

    def refuse(self) -> None:
        """Refuse every connection that is waiting now."""
        self._listener.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                thread = threading.Thread(
                    target=_respond, args=(connection, self._error), daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def stop_connections(self) -> None:
        """Let the system ignore new connections, on Linux; their clients retry by themselves."""
        program = b"".join(struct.pack("HBBI", *step) for step in _DROP_NEW_CONNECTIONS)
        memory = ctypes.create_string_buffer(program)
        option = struct.pack("HP", len(_DROP_NEW_CONNECTIONS), ctypes.addressof(memory))
        with suppress(OSError):  # not Linux
            self._listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)

    def close(self) -> None:
        """Refuse the last connections and close the socket.

        On Linux, clients that connect from now on are refused by the system as soon as the socket
        is closed; elsewhere, one that connects at the same moment may be reset.
        """
        self._error = ShuttingDown()
        self.stop_connections()
        deadline = time.monotonic() + _HANDSHAKE_TIMEOUT
        while (left := deadline - time.monotonic()) > 0:
            select.select([self._listener], [], [], left)
            self.refuse()
        self._listener.close()
        for thread in self._threads:
            thread.join(_CLIENT_TIMEOUT)


def _respond(connection: socket.socket, error: GatewayError) -> None:
    body = encode_error(error)
    headers = b"".join(b"%b: %b\r\n" % header for header in error_headers(error))
    with connection, suppress(OSError):
        connection.settimeout(_CLIENT_TIMEOUT)
        connection.recv(65536)
        connection.sendall(
            b"HTTP/1.1 503 Service Unavailable\r\n"
            b"%b"
            b"content-length: %d\r\n"
            b"connection: close\r\n\r\n"
            b"%b" % (headers, len(body), body)
        )
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # unread data would reset the connection, response included
            pass
