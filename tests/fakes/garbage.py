"""Switch off garbage collection, to find objects in reference cycles."""

import gc
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
