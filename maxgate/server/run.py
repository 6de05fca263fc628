"""Process-wide tuning for a process that does nothing but serve the gateway.

None of this runs when the application is embedded in another program: only `maxgate serve` and
`maxgate.asgi:app` call it.
"""

import gc
import multiprocessing
import os
import resource
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

# A few hundred concurrent requests have this many objects, and finding no garbage among them takes
# 20 to 35 ms. With less, the usual waves of requests cause collections; with more, each is longer.
_GC_YOUNG_THRESHOLD: Final = 50_000
_MAX_DESCRIPTORS: Final = 10_240  # macOS's OPEN_MAX
_FEW_DESCRIPTORS: Final = 1024

_log = structlog.get_logger("server")


def tune_process() -> None:
    """Freeze the objects created at startup and reduce garbage collection.

    Modules, types and validators are about 90,000 objects that live forever; a collection that
    visits them stops every request for 50 ms or more. Measured in benchmarks/gateway/README.md.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(_GC_YOUNG_THRESHOLD, *older)


def tune_event_loop() -> None:
    """Stop tracking async generators on the running loop.

    asyncio tracks every async generator to finalize leaked ones. The gateway closes all of its own
    explicitly, and the tracking costs more than the generators.
    """
    sys.set_asyncgen_hooks(firstiter=None)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of open files to the hard limit.

    Two descriptors are needed for each request; many systems have a soft limit of 1024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    wanted = max(soft, _MAX_DESCRIPTORS) if hard == resource.RLIM_INFINITY else hard
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < _FEW_DESCRIPTORS:
        _log.warning(
            f"only {limit} file descriptors are allowed, two per concurrent request",
            fix="raise the limit: `ulimit -n`, LimitNOFILE= of systemd, --ulimit of docker",
        )


def open_standard_descriptors() -> None:
    """Open the null device in place of descriptors 0 to 2 that the process was started without.

    Otherwise the first sockets would take these numbers, which libuv refuses to close.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def is_root(uid: int, uid_map: Path = Path("/proc/self/uid_map")) -> bool:
    """Whether the user id has root's rights outside of a user namespace, too.

    The first line of uid_map is that of user_namespaces(7): id inside, id outside, count.
    """
    try:
        outside = uid_map.read_text().split()[1]
    except (OSError, IndexError):  # not Linux
        outside = "0"
    return uid == 0 and outside == "0"


def end_with_parent() -> None:
    """End this process when the process that started it through multiprocessing dies."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    # uvicorn's workers would otherwise keep running.
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
