"""A bound on the CPU time of a piece of code."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limit_cpu_time(seconds: float) -> Iterator[None]:
    """Fail if the block takes longer on the CPU.

    As in a gateway, garbage collection skips the objects from before: those of thousands of tests
    would take most of the time.
    """
    gc.freeze()
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds
