"""ASGI connections without a server, and a sink that keeps the records of requests."""

from collections.abc import MutableMapping, Sequence
from typing import Any

from maxgate.generation.request_record import RequestRecord


class RecordingSink:
    """Counts the requests that started and keeps the records of those that finished."""

    def __init__(self) -> None:
        self.started = 0
        self.records: list[RequestRecord] = []

    def request_started(self) -> None:
        self.started += 1

    def request_finished(self, record: RequestRecord) -> None:
        self.records.append(record)


class SentMessages:
    """An ASGI `send` that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        """Status of the response."""
        status: int = self.messages[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        """Body of the response."""
        return b"".join(message["body"] for message in self.messages[1:])


def http_scope(
    method: str = "GET", path: str = "/", *, headers: Sequence[tuple[bytes, bytes]] = ()
) -> dict[str, Any]:
    """The scope of one request."""
    return {"type": "http", "method": method, "path": path, "headers": [*headers]}
