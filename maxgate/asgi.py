"""The application for ASGI servers: `uvicorn maxgate.asgi:app`."""

import os
import sys
from pathlib import Path
from typing import Any


def __getattr__(name: str) -> Any:
    # Build the application on first access, not at import.
    if name != "app":
        raise AttributeError(name)
    from maxgate.app import create_app  # noqa: PLC0415
    from maxgate.control_plane.worker import SOCKET_VARIABLE  # noqa: PLC0415
    from maxgate.errors import ConfigurationError  # noqa: PLC0415
    from maxgate.server.run import (  # noqa: PLC0415
        end_with_parent,
        raise_descriptor_limit,
        tune_event_loop,
        tune_process,
    )
    from maxgate.settings import load_and_configure_logging  # noqa: PLC0415
    from maxgate.telemetry.worker_folder import share_with_workers  # noqa: PLC0415

    try:
        settings = load_and_configure_logging()
        end_with_parent()
        raise_descriptor_limit()
        folder = None if settings.telemetry.metrics_dir else share_with_workers()
        app = create_app(
            settings,
            worker_folder=folder,
            on_startup=tune_event_loop,
            control_path=Path(path) if (path := os.environ.get(SOCKET_VARIABLE)) else None,
        )
    except ConfigurationError as error:
        # The server would print a traceback instead.
        sys.stderr.write(f"maxgate: {error}\n")
        sys.exit(2)
    tune_process()
    globals()["app"] = app
    return app
