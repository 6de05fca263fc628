"""A program `max` that serves a fake MAX, and the folder and cards to start it with.

`python -m tests.fakes.max_program serve --served-model-name NAME --port PORT`.

The variable FAKE_MAX_START_SECONDS lets each start take that long, FAKE_MAX_RESPONSE_SECONDS each
response.
"""

import argparse
import asyncio
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import uvicorn
import yaml

from tests.fakes.max_server import FakeMax

ROOT = Path(__file__).parents[2]  # a container has no pytest, which tests.conftest imports
BASE_IMAGE = "maxgate/max-cpu:26.7"
"""Has Python and the dependencies of this program; docs/containers.md says how to build it."""
_DOCKERFILE = f"""\
FROM {BASE_IMAGE}
COPY *.py /fake/tests/fakes/
WORKDIR /fake
ENTRYPOINT ["python", "-m", "tests.fakes.max_program"]
"""
FAILING = "fails"
"""Part of the name of models that cannot be started."""


class SlowMax(FakeMax):
    """Takes a moment for each response, so that requests overlap with changes of models."""

    seconds: float = float(os.environ.get("FAKE_MAX_RESPONSE_SECONDS", "0.05"))

    async def _respond(self, path: str, body: dict[str, Any], receive: Any, send: Any) -> None:
        await asyncio.sleep(self.seconds)
        await super()._respond(path, body, receive, send)


def main() -> None:
    """Serve one model, as `max serve` does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--served-model-name")
    parser.add_argument("--port", type=int)
    parser.add_argument("--host", default="127.0.0.1")
    known, _ = parser.parse_known_args()
    if FAILING in known.served_model_name:
        sys.exit("not enough memory")
    threading.Event().wait(float(os.environ.get("FAKE_MAX_START_SECONDS", "0")))
    engine = SlowMax(models=[known.served_model_name])
    uvicorn.run(
        engine, host=known.host, port=known.port, log_level="error", timeout_graceful_shutdown=1
    )


def install(folder: Path) -> dict[str, str]:
    """Install the program, and return the settings with which a gateway starts it."""
    folder.mkdir()
    program = folder / "max"
    program.write_text(
        f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m tests.fakes.max_program "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "weights").mkdir()
    (folder / "cards").mkdir()
    return {
        "MAXGATE_ENGINE__PYTHON": str(folder / "python"),
        "MAXGATE_ENGINE__MODE": "local",
        "MAXGATE_CARDS": str(folder / "cards"),
        "MAXGATE_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }


def build_image(docker: str, tag: str) -> None:
    """Build a container image of this program; raises CalledProcessError."""
    subprocess.run(
        [docker, "build", "--quiet", "--tag", tag, "--file", "-", str(Path(__file__).parent)],
        input=_DOCKERFILE.encode(),
        capture_output=True,
        check=True,
    )


def write_card(folder: Path, name: str, **fields: Any) -> None:
    """Write the card of a model that the program serves."""
    card = {
        "name": name,
        "prompt": "engine",
        "context_length": 8192,
        "max": {"model_path": str(folder / "weights")},
        **fields,
    }
    (folder / "cards" / f"{name}.yaml").write_text(yaml.safe_dump(card))


if __name__ == "__main__":
    main()
