"""The application for ASGI servers: `uvicorn maxgate.asgi:app`."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from typing import Any, Final

# More than the objects of a few hundred requests at once: with Python's own 700, their coming and
# going starts a collection every few requests that finds nothing to collect.
_YOUNG_OBJECTS: Final = 20_000


def __getattr__(name: str) -> Any:
    # Built when a server asks for it, not when this file is imported.
    if name != "app":
        raise AttributeError(name)
    from maxgate.app import create_app  # noqa: PLC0415
    from maxgate.errors import ConfigurationError  # noqa: PLC0415
    from maxgate.settings import load_settings  # noqa: PLC0415
    from maxgate.telemetry.logging import configure_logging  # noqa: PLC0415

    try:
        settings = load_settings()
        configure_logging(settings.telemetry.log_format)
        _end_with_parent()
        app = create_app(settings)
    except ConfigurationError as error:
        # A server that asks for it would show the traceback.
        sys.stderr.write(f"maxgate: {error}\n")
        sys.exit(2)
    settle_objects()
    return app


def settle_objects() -> None:
    """Take what is there now out of garbage collection, and collect more seldom.

    Modules, types and validators are some 90,000 objects that stay for good. A collection that
    looks at them all stops every request for 50 ms or more. Measured in
    benchmarks/gateway/README.md.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(_YOUNG_OBJECTS, *older)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    # uvicorn's workers would go on without the process that keeps them.
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
