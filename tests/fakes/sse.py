"""Read the event streams of the gateway."""

import json
from collections.abc import Iterable
from typing import Any

DONE = "[DONE]"


def read_events(text: str) -> list[Any]:
    """Return the JSON of each event; the last event of a complete stream is DONE.

    Comments are skipped. Any other field than `data` fails.
    """
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    assert all(frame.startswith("data: ") for frame in frames)
    data = [frame.removeprefix("data: ") for frame in frames]
    return [DONE if text == DONE else json.loads(text) for text in data]


def read_choices(text: str) -> list[dict[str, Any]]:
    """Return the choices of all chunks in a stream."""
    chunks = [event for event in read_events(text) if event != DONE]
    return [choice for chunk in chunks for choice in chunk["choices"]]


def join_content(events: Iterable[Any]) -> str:
    """Join the content of the first choice of each chunk."""
    return "".join(
        event["choices"][0]["delta"].get("content") or ""
        for event in events
        if event != DONE and event.get("choices")
    )
