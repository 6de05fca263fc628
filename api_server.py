"""The gateway: `python api_server.py`, or `uvicorn api_server:app`."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    from maxgate import asgi  # noqa: PLC0415  # builds the application when it is asked for

    return asgi.app


if __name__ == "__main__":
    from maxgate.installation import run_script

    run_script("api_server.py", "maxgate.cli.main:serve_main")
