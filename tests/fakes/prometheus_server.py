"""A real Prometheus with this project's rules, that scrapes given addresses each second."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests.fakes.gateway import TLS
from tests.fakes.processes import free_port
from tests.fakes.waiting import until

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "prometheus"


def find_program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`; skip the test if it is missing."""
    unpacked = Path(sys.prefix) / "prometheus" / "usr" / "bin" / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is missing; run: make .venv/prometheus, or apt-get install prometheus")
    return found


def run_promtool(*arguments: str) -> tuple[int, str]:
    """Run promtool in the folder of the configuration; return exit code and output."""
    done = subprocess.run(
        [find_program("promtool"), *arguments],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


class Prometheus:
    """The HTTP API of a running Prometheus."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(self, path: str, **parameters: str) -> Any:
        """Return the data of a response; an error fails the test with its text."""
        response = await self._client.get(f"/api/v1/{path}", params=parameters)
        body = response.json()
        assert body["status"] == "success", (parameters, body)
        return body["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an instant query."""
        data = await self.get("query", query=expression)
        assert data["resultType"] == "vector", expression
        result: list[dict[str, Any]] = data["result"]
        return result


def build_configuration(targets: Mapping[str, Mapping[str, str | None]]) -> dict[str, Any]:
    """Return the project's configuration with these targets by job, and their keys, if any."""
    configuration: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    configuration["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    configuration["rule_files"] = [str(FOLDER / pattern) for pattern in ("rules/*.yml",)]
    scrapes = []
    for number, (job, addresses) in enumerate(targets.items()):
        [scrape] = [s for s in configuration["scrape_configs"] if s["job_name"] == job]
        del scrape["dns_sd_configs"]
        scrape.pop("authorization", None)  # its file is in the container
        for url, key in addresses.items():
            one = {**scrape, "static_configs": [{"targets": [urlsplit(url).netloc]}]}
            # Prometheus wants unique names; the label is that of the project's job.
            one["job_name"] = f"{job}-{number}-{len(scrapes)}"
            one["relabel_configs"] = [{"target_label": "job", "replacement": job}]
            if key is not None:
                one["authorization"] = {"credentials": key}
            scrapes.append(one)
    return {**configuration, "scrape_configs": scrapes}


@asynccontextmanager
async def run_prometheus(
    folder: Path, targets: Mapping[str, Mapping[str, str | None]]
) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that keeps its data in the folder, and kill it at the end."""
    program, port = find_program("prometheus"), free_port()
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(build_configuration(targets)))
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, verify=TLS, timeout=30) as client:

            async def is_ready() -> bool:
                assert process.returncode is None
                try:
                    return (await client.get("/-/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(is_ready, within=30)
            yield Prometheus(client)
    finally:
        process.kill()
        await process.wait()


_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_BUILT_IN: Final = {"__rate_interval": "10s", "__range": "1m"}


def fill_variables(expression: str, values: Mapping[str, str]) -> str:
    """Replace the variables of a dashboard, and Grafana's own; raises KeyError for others."""
    known = {**_BUILT_IN, **values}
    return _VARIABLE.sub(lambda match: known[match[1] or match[2]], expression)
