"""Run MAX on `max_config.yaml` in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "max_config.yaml"

# Runs `max serve --config-file FILE` for each file, but prints the options instead of loading the
# model. One process for all files, because importing MAX takes seconds.
_READ = """
import json, sys
from max._entrypoints import pipelines
from max._entrypoints.cli import serve

def show(settings, pipeline_args):
    print(json.dumps({"read": pipeline_args.model_dump(mode="json")}))

serve.serve_api_server_and_model_worker = show
for file in sys.argv[1:]:
    try:
        pipelines.main(["serve", "--config-file", file], standalone_mode=False)
    except ValueError as error:
        print(json.dumps({"error": str(error)}))
"""


def read_with_max() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that MAX reads from the file, and its error for an unknown key."""
    with tempfile.TemporaryDirectory() as folder:
        misspelt = Path(folder) / "max_config.yaml"
        misspelt.write_text(FILE.read_text().replace("max_batch_size", "max_batch_sise"))
        done = subprocess.run(
            [sys.executable, "-c", _READ, str(FILE), str(misspelt)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OTEL_SDK_DISABLED": "true"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    read, rejected = map(json.loads, done.stdout.splitlines()[-2:])
    return read, rejected
