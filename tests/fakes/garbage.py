"""Garbage collection in tests: find objects in reference cycles, and what they leave open."""

import gc
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage within the context."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def collect_garbage(name: str) -> None:
    """Raise AssertionError if garbage of the test file `name` warns, such as an unclosed socket."""
    leaks: list[str] = []

    def describe(raised: "sys.UnraisableHookArgs") -> None:
        created = tracemalloc.get_object_traceback(raised.object)
        leaks.append("\n".join([f"{raised.exc_value!r}", *(created.format() if created else ())]))

    hook, sys.unraisablehook = sys.unraisablehook, describe
    try:
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert not leaks, "\n".join(
        [
            f"{name} leaves objects open; to see where they are created, run",
            f"python -X tracemalloc=25 -m pytest {name}",
            *leaks,
        ]
    )
