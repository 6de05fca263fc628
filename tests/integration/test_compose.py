"""The compose files, read as data without Docker."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import maxgate
from maxgate.engine.command import build_arguments, build_environment
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings, setting_names
from maxgate.settings_names import to_name

_ROOT = Path(__file__).parents[2]
_COMPOSE = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
_ENGINES = yaml.safe_load((_ROOT / "deploy" / "engines.yml").read_text())["services"]
_GATEWAY = _COMPOSE["services"]["gateway"]
_DOCKERFILE = (_ROOT / "Dockerfile").read_text()
_DEVICES = {"gpu": "llama-3.3-8b-instruct", "cpu": "smollm2-135m-instruct"}


def _engine(device: str) -> dict[str, Any]:
    """Build the service `max` as Compose does."""
    base, own = _ENGINES[device], _COMPOSE["services"]["max"]
    if "extends" in base:
        base = _ENGINES[base["extends"]["service"]] | base
    environment = base.get("environment", {}) | own["environment"]
    return base | own | {"environment": environment}


def _card(device: str) -> ModelCard:
    [card] = load_cards([_ROOT / "models" / f"{_DEVICES[device]}.yaml"])
    return card


def test_device() -> None:
    """MAX_DEVICE selects GPU or CPU, and defaults to the GPU."""
    extends = _COMPOSE["services"]["max"]["extends"]

    assert extends == {"file": "deploy/engines.yml", "service": "${MAX_DEVICE:-gpu}"}
    assert set(_ENGINES) == {*_DEVICES, "one-gpu"}


def test_compose_versions() -> None:
    """Only keys that docker-compose 1.29 and Docker Compose 2 share are used."""
    used = [v for s in (_GATEWAY, *map(_engine, _DEVICES)) for v in s["volumes"]]

    assert set(_COMPOSE) == {"services", "networks", "volumes"}
    named = {volume.partition(":")[0] for volume in used if not volume.startswith(".")}
    assert named == set(_COMPOSE["volumes"])


def test_profile_full() -> None:
    """The profile that a user would try builds an image that says what to do, and fails."""
    profiles = {name: s["profiles"] for name, s in _COMPOSE["services"].items() if "profiles" in s}
    assert profiles == {"full": ["full"]}
    assert _COMPOSE["services"]["full"] == {
        "profiles": ["full"],
        "build": "deploy/compose/profile-full",
    }

    dockerfile = (_ROOT / _COMPOSE["services"]["full"]["build"] / "Dockerfile").read_text()
    command = dockerfile.partition("\nRUN ")[2]
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "docker compose --file docker-compose.full.yml up --detach" in done.stderr


def test_networks() -> None:
    """Only the gateway publishes a port and reaches MAX, which has no authentication."""
    services = {"gateway": _GATEWAY} | {device: _engine(device) for device in _DEVICES}

    assert {name: service.get("ports") for name, service in services.items()} == {
        "gateway": ["${GATEWAY_HOST:-127.0.0.1}:${GATEWAY_PORT:-8000}:8000"],
        "gpu": None,
        "cpu": None,
    }
    assert {name: service["networks"] for name, service in services.items()} == {
        "gateway": ["default", "engine"],
        "gpu": ["engine"],
        "cpu": ["engine"],
    }


def test_images() -> None:
    """Images are pinned to this version of maxgate and to the cards' version of MAX."""
    images = {"gateway": _GATEWAY["image"]} | {d: _engine(d)["image"] for d in _DEVICES}

    assert images == {
        "gateway": f"maxgate/gateway:{maxgate.__version__}",
        "gpu": "modular/max-nvidia-full:26.7",
        "cpu": "maxgate/max-cpu:26.7",
    }
    assert {d: _card(d).max.image for d in _DEVICES} == {d: images[d] for d in _DEVICES}


def test_gateway_confinement() -> None:
    """The gateway is an unprivileged user on a read-only file system."""
    options = ("init", "read_only", "cap_drop", "security_opt")

    assert {option: _GATEWAY[option] for option in options} == {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    assert "\nUSER 10001:10001\n" in _DOCKERFILE


def test_gateway_extras() -> None:
    """Gateways in containers can share their slots through Redis."""
    assert (
        " '/src[guardrails,host,jwt,otel,postgres,redis,tls]'\n"
        in _DOCKERFILE.partition(" AS build-tools")[0]
    )


def test_gateway_restart() -> None:
    """The gateway has a health check, restarts, and has more time to stop than its requests."""
    assert "/health/live" in _DOCKERFILE.partition("\nHEALTHCHECK ")[2]
    assert _GATEWAY["restart"] == "unless-stopped"
    grace = int(_GATEWAY["stop_grace_period"].removesuffix("s"))
    assert grace > Settings().server.shutdown_timeout


@pytest.mark.parametrize("device", _DEVICES)
def test_max_restart(device: str) -> None:
    """MAX has a health check and restarts; its first start takes minutes."""
    engine = _engine(device)

    assert engine["restart"] == "unless-stopped"
    assert "'/health'" in engine["healthcheck"]["test"][-1]
    assert engine["healthcheck"]["start_period"] == {"gpu": "60m", "cpu": "15m"}[device]


@pytest.mark.parametrize("device", _DEVICES)
def test_max_environment(device: str) -> None:
    """MAX has the same environment as when maxgate starts it."""
    expected = build_environment(metrics_port=8001, telemetry=False)
    expected.pop("MAX_SERVE_METRICS_ENDPOINT_PORT")  # 8001 is MAX's default

    assert _engine(device)["environment"].items() >= expected.items()


def test_max_on_gpu() -> None:
    """On the GPU, MAX reads max_config.yaml from its mount."""
    engine = _engine("gpu")

    assert engine["command"] == [
        "--config-file=/etc/max/max_config.yaml",
        "--devices=gpu",
        f"--max-batch-size=${{MAX_BATCH_SIZE:-{_card('gpu').require_max().max_batch_size}}}",
    ]
    assert "../max_config.yaml:/etc/max/max_config.yaml:ro" in engine["volumes"]
    assert engine["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]


def test_max_on_cpu() -> None:
    """On the CPU, MAX has the flags of the small model's card, except for the address."""
    model = f"/opt/maxgate/models/{_DEVICES['cpu']}"
    _, *flags = build_arguments(_card("cpu"), model=model, prepared=None, host="H", port=0)

    words = [word for argument in _engine("cpu")["command"] for word in argument.split("=", 1)]

    assert sorted([*words, "--host", "H", "--port", "0"]) == sorted(flags)


def test_compile_cache() -> None:
    """The volume's name has MAX's version, because each version needs a cache of its own."""
    inside = "/opt/venv/share/max/.max_cache"

    for device in _DEVICES:
        version = _engine(device)["image"].partition(":")[2]
        assert f"compiled-{device}-{version}:{inside}" in _engine(device)["volumes"]
        assert _engine(device)["environment"]["MODULAR_MAX_CACHE_DIR"] == inside


def test_gateway_variables() -> None:
    """The variables of Compose file and image are settings by their current names."""
    in_image = re.findall(r"(MAXGATE_\w+)=", _DOCKERFILE)
    names = {to_name(variable) for variable in (*_GATEWAY["environment"], *in_image)}

    assert names == {
        *("engines", "auth.mode", "admission.slots", "server.host", "cache_dir", "state_dir")
    }
    assert _GATEWAY["environment"]["MAXGATE_AUTH__MODE"] == "${GATEWAY_AUTH:-none}"
    assert names <= set(setting_names())


def test_gateway_volumes() -> None:
    """The gateway reads MAX's tokenizers, and can write to its state only."""
    assert _GATEWAY["volumes"] == [
        "huggingface:/var/lib/huggingface:ro",
        "models:/var/cache/maxgate/models:ro",
        "state:/var/lib/maxgate",
    ]
    assert "MAXGATE_CACHE_DIR=/var/cache/maxgate " in _DOCKERFILE
    assert "MAXGATE_STATE_DIR=/var/lib/maxgate " in _DOCKERFILE
    assert "HF_HOME=/var/lib/huggingface\n" in _DOCKERFILE
    assert "huggingface:/root/.cache/huggingface" in _engine("gpu")["volumes"]
    assert "models:/srv/models" in _engine("cpu")["volumes"]
    assert "\nshared=/srv/models\n" in (_ROOT / "deploy" / "max-cpu" / "max-serve").read_text()
