"""The gateway reads the configuration of every overlay."""

import os
from pathlib import Path

import pytest
import yaml

from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings, check_use, load_settings
from tests.fakes.manifests import FOLDER, OVERLAYS, ROOT, Pods, find, find_pods, select

SECRETS = {
    "database-url": "postgresql://maxgate:secret@postgres.data:5432/maxgate",
    "redis-url": "redis://redis.data:6379/0",
    "pepper": "0123456789abcdef" * 4,
    "metrics-key": "fedcba9876543210" * 4,
}


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    """Name of an overlay."""
    name: str = request.param
    return name


@pytest.fixture
def settings(overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings in a pod: files of its volumes are in a folder, variables are set."""
    for name, content in find(overlay, "ConfigMap", "gateway")["data"].items():
        (tmp_path / name).write_text(content.replace("/etc/maxgate", str(tmp_path)))
    monkeypatch.setenv("MAXGATE_CONFIG", str(tmp_path / "maxgate.yaml"))
    return load(find_pods(overlay, "gateway"), tmp_path, monkeypatch)


def load(pods: Pods, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Read the settings with the variables of these pods, and secrets in a folder."""
    for name, content in SECRETS.items():
        (folder / name).write_text(content)
    for name, value in pods.read_env().items():
        monkeypatch.setenv(name, value.replace("/run/maxgate", str(folder)))
    monkeypatch.setenv("MAXGATE_SECRETS_DIR", "")
    monkeypatch.setenv("MAXGATE_SERVER__HOST", "0.0.0.0")  # in the image
    monkeypatch.chdir(folder)
    loaded = load_settings()
    check_use(loaded)
    return loaded


def test_engines(settings: Settings, overlay: str) -> None:
    """Engines and their metrics are at the ports of the Service without an address."""
    service = find(overlay, "Service", "max")["spec"]
    ports = {port["name"]: port["port"] for port in service["ports"]}
    (engine,) = settings.engines
    assert (service["clusterIP"], engine.url, engine.metrics_url) == (
        "None",
        f"dns+http://max:{ports['http']}",
        f"http://max:{ports['metrics']}/metrics",
    )


def test_served_models(settings: Settings, overlay: str) -> None:
    """The card has the name under which MAX serves the model."""
    cards = load_cards(settings.cards, settings.cache_dir)
    expected = "smollm2-135m-instruct" if overlay == "dev" else "llama-3.3-8b-instruct"
    assert expected in [card.served_model_name for card in cards]
    (container,) = find_pods(overlay, "max").containers
    config = yaml.safe_load((ROOT / "max_config.yaml").read_text())
    served = [one for one in container["args"] if one.startswith("--served-model-name=")]
    name = served[0].partition("=")[2] if served else config["model"]["served_model_name"]
    assert name == expected


def test_authentication(settings: Settings, overlay: str) -> None:
    """Only development is without keys, and there no route leads to the gateway."""
    assert settings.auth.mode == ("none" if overlay == "dev" else "keys")
    assert not settings.auth.open_metrics
    assert bool(select(overlay, "HTTPRoute")) is (overlay != "dev")


def test_metrics_key(settings: Settings, overlay: str) -> None:
    """Prometheus has the key of the metrics, from the Secret that the gateways mount."""
    if overlay == "dev":  # nothing is protected, and no Prometheus is expected
        assert not select(overlay, "ServiceMonitor")
        return
    (endpoint,) = find(overlay, "ServiceMonitor", "gateway")["spec"]["endpoints"]
    credentials = endpoint["authorization"]["credentials"]
    key = settings.auth.metrics_key
    assert key is not None
    assert key.get_secret_value() == SECRETS[credentials["key"]]
    volumes = find_pods(overlay, "gateway").spec["volumes"]
    assert [one["secret"]["secretName"] for one in volumes if "secret" in one] == [
        credentials["name"]
    ]


def test_shared_stores(settings: Settings, overlay: str) -> None:
    """Several gateways share keys, limits and usage."""
    has_stores = overlay != "dev"
    assert settings.usage.enabled is has_stores
    assert (settings.database.url is not None, settings.redis.url is not None) == (
        has_stores,
        has_stores,
    )


@pytest.mark.parametrize("cluster", ["staging", "production"])
def test_migration(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Job finds the database of the gateways by its variables alone."""
    read = load(find_pods(cluster, "db-upgrade"), tmp_path, monkeypatch)
    assert read.database.url == SECRETS["database-url"]


def test_spool_fits(settings: Settings, overlay: str) -> None:
    """The spool's bound is within the volume."""
    sizes = {"dev": 2 << 30, "staging": 2 << 30, "production": 4 << 30}
    assert settings.usage.max_spool_bytes < sizes[overlay]


def test_shared_rules() -> None:
    """The rules for the Prometheus operator are those of deploy/prometheus."""
    file = FOLDER / "components" / "monitoring" / "shared-rules.yaml"
    groups = [
        group
        for rules in sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(rules.read_text())["groups"]
    ]
    head, _, _ = file.read_text().partition("spec:\n")
    text = head + yaml.safe_dump({"spec": {"groups": groups}}, sort_keys=False, width=100)
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert yaml.safe_load(file.read_text())["spec"]["groups"] == groups
