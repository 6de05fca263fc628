"""The compose file holds what it promises; read as data, without Docker."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import maxgate
from maxgate.engine.command import engine_environment, serve_arguments
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings

_ROOT = Path(__file__).parents[2]
_COMPOSE = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())
_ENGINES = yaml.safe_load((_ROOT / "deploy" / "engines.yml").read_text())["services"]
_GATEWAY = _COMPOSE["services"]["gateway"]
_DOCKERFILE = (_ROOT / "Dockerfile").read_text()
_DEVICES = {"gpu": "llama-3.3-8b-instruct", "cpu": "smollm2-135m-instruct"}


def _engine(device: str) -> dict[str, Any]:
    """The service `max` as compose puts it together."""
    base, own = _ENGINES[device], _COMPOSE["services"]["max"]
    environment = base.get("environment", {}) | own["environment"]
    return base | own | {"environment": environment}


def _card(device: str) -> ModelCard:
    [card] = load_cards([_ROOT / "models" / f"{_DEVICES[device]}.yaml"])
    return card


def test_one_variable_chooses_between_gpu_and_cpu() -> None:
    """The GPU where it is not set."""
    extends = _COMPOSE["services"]["max"]["extends"]

    assert extends == {"file": "deploy/engines.yml", "service": "${MAX_DEVICE:-gpu}"}
    assert set(_ENGINES) == set(_DEVICES)


def test_old_and_new_compose_read_the_files() -> None:
    """Neither `version:` nor `name:`, `include:` or `develop:`; every volume is declared."""
    used = [v for s in (_GATEWAY, *map(_engine, _DEVICES)) for v in s["volumes"]]

    assert set(_COMPOSE) == {"services", "networks", "volumes"}
    named = {volume.partition(":")[0] for volume in used if not volume.startswith(".")}
    assert named == set(_COMPOSE["volumes"])


def test_only_the_gateway_publishes_a_port() -> None:
    """MAX has no authentication: nobody but the gateway shares a network with it."""
    services = {"gateway": _GATEWAY} | {device: _engine(device) for device in _DEVICES}

    assert {name: service.get("ports") for name, service in services.items()} == {
        "gateway": ["${GATEWAY_PORT:-8000}:8000"],
        "gpu": None,
        "cpu": None,
    }
    assert {name: service["networks"] for name, service in services.items()} == {
        "gateway": ["default", "engine"],
        "gpu": ["engine"],
        "cpu": ["engine"],
    }


def test_images_are_pinned() -> None:
    """To this version of maxgate, and to the MAX that the cards name."""
    images = {"gateway": _GATEWAY["image"]} | {d: _engine(d)["image"] for d in _DEVICES}

    assert images == {
        "gateway": f"maxgate/gateway:{maxgate.__version__}",
        "gpu": "modular/max-nvidia-full:26.7",
        "cpu": "maxgate/max-cpu:26.7",
    }
    assert {d: _card(d).max.image for d in _DEVICES} == {d: images[d] for d in _DEVICES}


def test_the_gateway_is_confined() -> None:
    """It runs as a user without powers, on a file system that it cannot change."""
    options = ("init", "read_only", "cap_drop", "security_opt")

    assert {option: _GATEWAY[option] for option in options} == {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    assert "\nUSER 10001:10001\n" in _DOCKERFILE


def test_the_gateway_is_checked_and_comes_back() -> None:
    """It has longer to stop than its requests have to end."""
    assert "/health/live" in _DOCKERFILE.partition("\nHEALTHCHECK ")[2]
    assert _GATEWAY["restart"] == "unless-stopped"
    grace = int(_GATEWAY["stop_grace_period"].removesuffix("s"))
    assert grace > Settings().shutdown_timeout


@pytest.mark.parametrize("device", _DEVICES)
def test_max_is_checked_and_comes_back(device: str) -> None:
    """Its first start takes minutes, in which it does not count as unhealthy."""
    engine = _engine(device)

    assert engine["restart"] == "unless-stopped"
    assert "'/health'" in engine["healthcheck"]["test"][-1]
    assert engine["healthcheck"]["start_period"] == {"gpu": "60m", "cpu": "15m"}[device]


@pytest.mark.parametrize("device", _DEVICES)
def test_max_has_the_environment_that_maxgate_gives_it(device: str) -> None:
    """Only OpenAI's routes, and nothing sent to Modular."""
    given = engine_environment(metrics_port=8001, telemetry=False)
    given.pop("MAX_SERVE_METRICS_ENDPOINT_PORT")  # 8001 is MAX's default

    assert _engine(device)["environment"].items() >= given.items()


def test_max_on_the_gpu_reads_max_config() -> None:
    """The file is mounted where the flag points."""
    engine = _engine("gpu")

    assert engine["command"] == ["--config-file=/etc/max/max_config.yaml", "--devices=gpu"]
    assert "../max_config.yaml:/etc/max/max_config.yaml:ro" in engine["volumes"]
    assert engine["deploy"]["resources"]["reservations"]["devices"] == [
        {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    ]


def test_max_on_the_cpu_has_the_flags_of_the_small_models_card() -> None:
    """Except for the address, which is the image's own."""
    model = f"/opt/maxgate/models/{_DEVICES['cpu']}"
    _, *flags = serve_arguments(_card("cpu"), model=model, prepared=None, host="H", port=0)

    words = [word for argument in _engine("cpu")["command"] for word in argument.split("=", 1)]

    assert sorted([*words, "--host", "H", "--port", "0"]) == sorted(flags)


def test_volumes_of_compiled_models_carry_max_s_version() -> None:
    """A volume keeps what an older MAX compiled; an upgrade starts with an empty one."""
    inside = "/opt/venv/share/max/.max_cache"

    for device in _DEVICES:
        version = _engine(device)["image"].partition(":")[2]
        assert f"compiled-{device}-{version}:{inside}" in _engine(device)["volumes"]
        assert _engine(device)["environment"]["MODULAR_MAX_CACHE_DIR"] == inside


def test_the_gateway_reads_tokenizers_where_max_leaves_them() -> None:
    """It cannot write there."""
    assert _GATEWAY["volumes"] == [
        "huggingface:/var/lib/huggingface:ro",
        "models:/var/lib/maxgate/models:ro",
    ]
    assert "MAXGATE_DATA_DIR=/var/lib/maxgate " in _DOCKERFILE
    assert "HF_HOME=/var/lib/huggingface\n" in _DOCKERFILE
    assert "huggingface:/root/.cache/huggingface" in _engine("gpu")["volumes"]
    assert "models:/srv/models" in _engine("cpu")["volumes"]
    assert "\nshared=/srv/models\n" in (_ROOT / "deploy" / "max-cpu" / "max-serve").read_text()
