"""Attacks on HTTP itself, as bytes for nginx, and the responses that refuse them.

Each has a canary: a second request, hidden in the first one. It must not reach an engine.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from tests.fakes.nginx_server import NginxServer

HIDDEN: Final = b"hidden canary"
_CHAT: Final = b'{"messages":[{"role":"user","content":"%b"}]}' % HIDDEN
_HIDDEN_REQUEST: Final = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(_CHAT), _CHAT)
)


@dataclass(frozen=True)
class Attack:
    """Bytes to send on one connection, and the statuses that refuse them.

    0 is a connection that is closed without a response.
    """

    name: str
    content: bytes
    statuses: Sequence[int] = (400,)


async def send_attack(server: NginxServer, attack: Attack) -> tuple[int, bytes]:
    """Send an attack; returns the status of the first response, 0 if there is none, and the body.

    Raises TimeoutError if the server keeps the connection open without a response.
    """
    data = b""
    async with asyncio.timeout(5):
        reader, writer = await server.connect()
        try:
            writer.write(attack.content)
            while not _is_complete(data) and (read := await reader.read(65536)):
                data += read
        except OSError:
            pass  # reset
        finally:
            writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    return (int(head.split(b" ")[1]) if head else 0), body


def is_refused(attack: Attack, status: int, body: bytes) -> bool:
    """Whether this response refuses the attack, and has the shape of OpenAI's errors."""
    if status == 0 or status not in attack.statuses:
        return status in attack.statuses
    try:
        return set(orjson.loads(body)["error"]) == {"message", "type", "param", "code"}
    except (ValueError, LookupError, TypeError):
        return False


def _is_complete(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
    return bool(length) and len(body) >= int(length)


def _post(
    headers: bytes, body: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1"
) -> bytes:
    head = b"%b\r\nHost: localhost\r\nContent-Type: application/json\r\n%b\r\n\r\n"
    return head % (line, headers) + body


def _get(target: bytes, headers: bytes = b"Host: localhost", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\n%b\r\nConnection: close\r\n\r\n" % (method, target, headers)


def list_attacks() -> Iterator[Attack]:
    """Yield every attack."""
    yield from _list_smuggling()
    yield from _list_paths()
    yield from _list_malformed()


def _list_smuggling() -> Iterator[Attack]:
    chunked = b"0\r\n\r\n" + _HIDDEN_REQUEST
    length = b"Content-Length: %d" % len(chunked)
    encodings = {
        "encoding and length": b"Transfer-Encoding: chunked\r\n" + length,
        "length and encoding": length + b"\r\nTransfer-Encoding: chunked",
        "two length": b"Content-Length: 5\r\n" + length,
        "length list": b"Content-Length: 5, %d" % len(chunked),
        "length with plus": b"Content-Length: +5",
        "length negative": b"Content-Length: -1",
        "length hexadecimal": b"Content-Length: 0x5",
        "length empty": b"Content-Length: ",
        "length overflow": b"Content-Length: 18446744073709551621",
        "encoding unknown": b"Transfer-Encoding: xchunked",
        "encoding list": b"Transfer-Encoding: chunked, identity",
        "encoding identity first": b"Transfer-Encoding: identity, chunked",
        "encoding twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "encoding with vertical tab": b"Transfer-Encoding: \x0bchunked",
        "encoding gzip": b"Transfer-Encoding: gzip, chunked",
        "space before colon": b"Transfer-Encoding : chunked\r\n" + length,
        "encoding by folding": b"X-A: b\r\n Transfer-Encoding: chunked\r\n" + length,
        "NUL in a name": b"Transfer-Enc\x00oding: chunked\r\n" + length,
    }
    for name, headers in encodings.items():
        yield Attack(f"smuggling: {name}", _post(headers, chunked), (400, 0))
    bodies = {
        "chunk size negative": b"-1\r\n\r\n",
        "chunk size overflow": b"fffffffffffffffff\r\n\r\n",
        "chunk size not hexadecimal": b"zz\r\n\r\n",
        "chunk longer than its size": b"1\r\nabc\r\n0\r\n\r\n",
    }
    for name, body in bodies.items():
        content = _post(b"Transfer-Encoding: chunked", body + _HIDDEN_REQUEST)
        yield Attack(f"smuggling: {name}", content, (400, 0))
    # Dropped or refused: the hidden request must be read as a body, which is not JSON.
    for header in (b"Content_Length: 5", b"Transfer_Encoding: chunked"):
        content = _post(b"%b\r\n%b\r\nConnection: close" % (header, length), chunked)
        yield Attack(f"smuggling: {header.decode()}", content)
    yield Attack(
        "smuggling: HTTP/1.0 with encoding",
        _post(b"Transfer-Encoding: chunked", chunked, b"POST /v1/chat/completions HTTP/1.0"),
        (400, 0),
    )


def _list_paths() -> Iterator[Attack]:
    for path in (
        b"/admin/engines",
        b"/metrics",
        b"/docs",
        b"/openapi.json",
        b"/health",
        b"/auth",
        b"/_auth",
        b"/_error/404",
        b"/running",
        b"/key/list",
        b"/spend/logs",
        b"/api/models/unload",
        b"/v1/organization/projects",
        b"/v1//organization/projects",
        b"/v1/%6frganization/projects",
        b"/v1/../admin/engines",
        b"/v1/..%2fadmin/engines",
        b"/v1/%2e%2e/metrics",
        b"//metrics",
        b"/v1/models/..%2f..%2fmetrics",
        b"/chat/../metrics",
        b"/./metrics",
        b"/%6detrics",
        b"/v1/./organization/projects",
        b"/v1/models/../organization/projects",
        b"/METRICS",
    ):
        yield Attack(f"path: {path.decode()}", _get(path), (404, 400))
    for target in (b"http://evil.example/v1/models", b"http://localhost@evil.example/v1/models"):
        yield Attack(f"target: {target.decode()}", _get(target), (400, 421))
    for target in (b"@evil", b"*", b"v1/models", b"/v1/models\x00", b"/v1/%zz", b"/v1/models%00"):
        yield Attack(f"target: {target!r}", _get(target))


def _list_malformed() -> Iterator[Attack]:
    for host in (
        b"x/livez?",
        b"x/#",
        b"a/?x=",
        b"a b",
        b"\x00",
        b"a@b",
        b"",
        b"evil.example",
        b"localhost, evil.example",
    ):
        yield Attack(f"Host: {host!r}", _get(b"/v1/models", b"Host: " + host), (400, 421))
    yield Attack("two Hosts", _get(b"/v1/models", b"Host: localhost\r\nHost: evil.example"))
    yield Attack("no Host", _get(b"/v1/models", b"X-A: b"))
    yield Attack("method TRACE", _get(b"/v1/models", method=b"TRACE"), (405,))
    yield Attack("method CONNECT", _get(b"localhost:443", method=b"CONNECT"), (400, 405))
    yield Attack("method FOO", _get(b"/v1/models", method=b"FOO"), (400, 405))
    yield Attack("method in lower case", _get(b"/v1/models", method=b"get"))
    yield Attack("version 3.0", b"GET /v1/models HTTP/3.0\r\nHost: localhost\r\n\r\n")
    yield Attack("header without colon", _get(b"/v1/models", b"Host: localhost\r\nX-A b"))
    yield Attack("CR in a header", _get(b"/v1/models", b"Host: localhost\r\nX-A: a\rX-B: b"))
    yield Attack("huge URL", _get(b"/v1/models?" + b"a" * 32_000), (414,))
    yield Attack(
        "huge header", _get(b"/v1/models", b"Host: localhost\r\nX-A: " + b"a" * 64_000), (431,)
    )
    many = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1000) for number in range(101))
    yield Attack("many headers", _get(b"/v1/models", b"Host: localhost\r\n" + many[:-2]), (431,))
    yield Attack("huge body", _post(b"Content-Length: 11534337", b""), (413,))
    yield Attack("gzip bomb", _post(b"Content-Encoding: gzip\r\nContent-Length: 2", b"{}"), (415,))
    yield Attack("plain TLS record", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, 0))
    yield Attack("HTTP/2 preface without ALPN", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 0))
