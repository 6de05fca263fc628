"""Garbage collection out of the way, so that what is left to it is seen."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Nothing is collected in here."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
