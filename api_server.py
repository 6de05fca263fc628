"""The gateway: `python api_server.py`, or `uvicorn api_server:app`."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    from maxgate import asgi  # noqa: PLC0415  # builds the application when it is asked for

    return asgi.app


if __name__ == "__main__":
    from maxgate.cli.main import serve_main

    serve_main()
