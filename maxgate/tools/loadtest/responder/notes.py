"""What the scripted server noted."""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Note:
    """When the scripted server got a request and when it wrote each piece."""

    received: float
    writes: Sequence[float]


async def notes_of(url: str) -> dict[tuple[int, int], Note]:
    """By index and turn; it forgets them."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        noted = (await client.get(f"{url}/notes")).json()
    found = {}
    for key, received, writes in noted:
        index, turn = key.rsplit("-", 2)[-2:]
        found[int(index), int(turn)] = Note(received, writes)
    return found
