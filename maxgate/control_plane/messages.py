"""Messages between the parent process and its workers: a JSON object per line.

A worker starts with `hello`. The parent sends `state` then and after every change, and the worker
responds with `report` once it has applied it. A worker forwards an admin request as `call`, and the
parent responds with `reply`. The parent sends `canary` to start, keep or end a canary, and the
worker responds with `canary_report`. A worker sends `demand` when requests begin or end to wait for
a model that does not run.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Final

# Reports list every engine with its models.
MAX_LINE: Final = 16 * 1024 * 1024

Message = dict[str, Any]


def send_message(writer: asyncio.StreamWriter, message: Message) -> None:
    """Send a message; a peer that has gone is noticed by reading."""
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


async def read_messages(reader: asyncio.StreamReader) -> AsyncGenerator[Message, None]:
    """Yield messages until the peer closes the connection or breaks the protocol."""
    with suppress(ConnectionError, ValueError):  # a line that is too long or not JSON
        while line := await reader.readline():
            message = json.loads(line)
            if not isinstance(message, dict):
                return
            yield message
