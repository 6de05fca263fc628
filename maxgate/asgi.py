"""The application for ASGI servers: `uvicorn maxgate.asgi:app`."""

import multiprocessing
import os
import signal
import threading
from typing import Any


def __getattr__(name: str) -> Any:
    # Built when a server asks for it, not when this file is imported.
    if name != "app":
        raise AttributeError(name)
    from maxgate.app import create_app  # noqa: PLC0415
    from maxgate.settings import load_settings  # noqa: PLC0415
    from maxgate.telemetry.logs import configure_logging  # noqa: PLC0415

    settings = load_settings()
    configure_logging(settings.log_format)
    _end_with_parent()
    return create_app(settings)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    # uvicorn's workers would go on without the process that keeps them.
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
