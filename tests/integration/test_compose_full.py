"""The compose files of production, read as data without Docker."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import maxgate
from maxgate.engine.command import build_environment
from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings, setting_names
from maxgate.settings_names import to_name

_ROOT = Path(__file__).parents[2]
_COMPOSE = yaml.safe_load((_ROOT / "docker-compose.full.yml").read_text())
_SERVICES: dict[str, dict[str, Any]] = _COMPOSE["services"]
_GPUS = yaml.safe_load((_ROOT / "deploy" / "gpus.yml").read_text())["services"]
_ENGINES = yaml.safe_load((_ROOT / "deploy" / "engines.yml").read_text())["services"]
_CONFINED = [name for name in _SERVICES if name != "max"]
_SECRETS = [
    *("grafana_password", "maxgate_auth__metrics_key", "maxgate_auth__pepper"),
    *("maxgate_database__url", "maxgate_redis__url", "postgres_password", "redis_acl"),
]


def test_services() -> None:
    """Production has four gateways, and everything that they need."""
    assert set(_SERVICES) == {
        *("nginx", "gateway", "migrate", "max", "postgres", "redis", "prometheus", "grafana")
    }
    assert _SERVICES["gateway"]["scale"] == 4
    assert _SERVICES["max"]["extends"] == {"file": "docker-compose.yml", "service": "max"}


def test_ports() -> None:
    """Only nginx publishes a port, and to this machine only unless the operator opens it."""
    ports = {name: service["ports"] for name, service in _SERVICES.items() if "ports" in service}

    assert ports == {"nginx": ["${GATEWAY_HOST:-127.0.0.1}:${GATEWAY_TLS_PORT:-8443}:8443"]}


def test_networks() -> None:
    """Each service reaches only what it uses."""
    assert {name: set(service["networks"]) for name, service in _SERVICES.items()} == {
        "nginx": {"edge", "frontend"},
        "gateway": {"frontend", "data", "engine"},
        "migrate": {"data"},
        "max": {"engine"},
        "postgres": {"data"},
        "redis": {"data"},
        "prometheus": {"engine", "monitoring"},
        "grafana": {"monitoring"},
    }
    networks = _COMPOSE["networks"]
    assert {name for name, network in networks.items() if (network or {}).get("internal")} == {
        *("frontend", "data", "monitoring")
    }


@pytest.mark.parametrize("name", _CONFINED)
def test_confinement(name: str) -> None:
    """A service is an unprivileged user with a read-only file system and bounded resources."""
    service = _SERVICES[name]

    options = ("init", "read_only", "cap_drop", "security_opt")
    assert {option: service[option] for option in options} == {
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    assert {"mem_limit", "pids_limit"} <= set(service)
    if name in {"gateway", "migrate"}:  # the image's user, 10001
        assert "user" not in service
    else:
        assert service["user"].partition(":")[0] in {"101", "postgres", "redis", "65534", "472"}


@pytest.mark.parametrize("name", ["one-gpu", "cpu"])
def test_engine_resources(name: str) -> None:
    """MAX has bounded memory and processes."""
    assert {"mem_limit", "pids_limit"} <= set(_ENGINES[name])


def test_start_order() -> None:
    """Tables are created after PostgreSQL is up, before gateways, and those before nginx."""
    conditions = {
        name: {other: entry["condition"] for other, entry in service["depends_on"].items()}
        for name, service in _SERVICES.items()
        if isinstance(service.get("depends_on"), dict)
    }

    assert conditions == {
        "nginx": {"gateway": "service_healthy"},
        "gateway": {
            "migrate": "service_completed_successfully",
            "redis": "service_healthy",
            "max": "service_started",
        },
        "migrate": {"postgres": "service_healthy"},
    }
    assert _SERVICES["migrate"]["command"] == ["db", "upgrade"]
    assert _SERVICES["migrate"]["restart"] == "no"
    assert all("healthcheck" in _SERVICES[name] for name in ("nginx", "postgres", "redis"))


def test_images() -> None:
    """Gateway and migration are the same image, of this version unless another one is chosen."""
    images = {_SERVICES[name]["image"] for name in ("gateway", "migrate")}

    assert images == {f"maxgate/gateway:${{GATEWAY_VERSION:-{maxgate.__version__}}}"}


def test_settings() -> None:
    """Variables and secrets of the gateway are settings by their current names."""
    gateway = _SERVICES["gateway"]
    names = {to_name(name.upper()) for name in (*gateway["environment"], *gateway["secrets"])}

    assert names == {
        *("engines", "auth.mode", "auth.metrics_key", "auth.pepper", "server.trusted_proxies"),
        *("server.shutdown_timeout", "usage.enabled", "admission.slots", "database.url"),
        *("telemetry.host", "telemetry.certificates", "redis.url"),
    }
    assert names <= set(setting_names())
    assert _SERVICES["migrate"]["environment"] == gateway["environment"]


def test_metrics_key() -> None:
    """Prometheus reads the gateways' metrics with the key that they accept for nothing else."""
    prometheus = yaml.safe_load((_ROOT / "deploy/prometheus/prometheus.yml").read_text())
    [job] = [job for job in prometheus["scrape_configs"] if job["job_name"] == "maxgate"]
    file = Path(job["authorization"]["credentials_file"])

    assert file.parent == Path("/run/secrets")
    assert to_name(file.name.upper()) == "auth.metrics_key"
    assert _SERVICES["prometheus"]["secrets"] == [file.name]
    assert file.name in _SERVICES["gateway"]["secrets"]


def test_certificate() -> None:
    """Gateways read when the certificate of nginx expires, after a renewal, too."""
    file = Path(_SERVICES["gateway"]["environment"]["MAXGATE_TELEMETRY__CERTIFICATES"])

    assert f"./deploy/tls:{file.parent}:ro" in _SERVICES["gateway"]["volumes"]
    assert "./deploy/tls:/etc/nginx/tls:ro" in _SERVICES["nginx"]["volumes"]
    assert file.name in (_ROOT / "deploy" / "create-secrets.sh").read_text()


def test_open_files() -> None:
    """The runbook names the limit of open files of the Compose file."""
    limit = _SERVICES["gateway"]["ulimits"]["nofile"]["soft"]

    assert f"({limit:,} in `docker-compose.full.yml`)" in (_ROOT / "docs/dashboards.md").read_text()


def test_proxy_address() -> None:
    """The gateway believes forwarding headers of nginx only, whose address nobody else can get."""
    address = _SERVICES["nginx"]["networks"]["frontend"]["ipv4_address"]

    assert _SERVICES["gateway"]["environment"]["MAXGATE_SERVER__TRUSTED_PROXIES"] == address
    prefix = address.removesuffix(".2")
    assert _COMPOSE["networks"]["frontend"]["ipam"]["config"] == [
        {"subnet": f"{prefix}.0/24", "ip_range": f"{prefix}.128/25"}
    ]


def test_shutdown() -> None:
    """Gateways have more time to stop than their requests, and nginx as much as gateways."""
    gateway = _SERVICES["gateway"]
    timeout = int(gateway["environment"]["MAXGATE_SERVER__SHUTDOWN_TIMEOUT"])

    assert timeout > Settings().server.shutdown_timeout
    for name in ("gateway", "nginx"):
        assert int(_SERVICES[name]["stop_grace_period"].removesuffix("s")) > timeout


def test_secrets() -> None:
    """Secrets are files that git ignores, and no variable has one."""
    files = {entry["file"] for entry in _COMPOSE["secrets"].values()}

    assert files == {f"deploy/secrets/{name}" for name in _SECRETS}
    ignored = (_ROOT / ".gitignore").read_text().splitlines()
    assert {"/deploy/secrets/", "/deploy/tls/"} <= set(ignored)


def _create_secrets(
    folder: Path, *arguments: str, path: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a copy of the script in a folder; commands in `path` come first."""
    return _run_copy("create-secrets.sh", folder, *arguments, path=path)


def _run_copy(
    name: str, folder: Path, *arguments: str, path: Path | None = None, compose: str = "true"
) -> "subprocess.CompletedProcess[str]":
    """Run a copy of a script of deploy, with a command in place of Docker Compose."""
    script = folder / name
    script.write_bytes((_ROOT / "deploy" / name).read_bytes())
    return subprocess.run(
        ["/bin/sh", str(script), *arguments],
        env=os.environ | {"COMPOSE": compose, "PATH": f"{path or folder}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_secrets_script(tmp_path: Path) -> None:
    """The script creates every secret once, and keeps those that exist."""
    tls = tmp_path / "tls"
    tls.mkdir()
    for name in ("tls.crt", "tls.key"):  # of the operator's own
        (tls / name).touch()
    created = []

    for _ in range(2):
        assert _create_secrets(tmp_path).returncode == 0
        files = sorted((tmp_path / "secrets").iterdir())
        created.append({file.name: (file.read_text(), file.stat().st_mode) for file in files})

    assert created[0] == created[1]
    assert list(created[0]) == _SECRETS
    assert {oct(mode & 0o777) for _, mode in created[0].values()} == {"0o444"}
    assert oct((tmp_path / "secrets").stat().st_mode & 0o777) == "0o700"
    password, _ = created[0]["postgres_password"]
    assert created[0]["maxgate_database__url"][0] == (
        f"postgresql://maxgate:{password}@postgres:5432/maxgate"
    )


def test_hosts_of_the_secrets_script(tmp_path: Path) -> None:
    """Names of --host are names of nginx's server, and only a run with --host changes them."""
    tls = tmp_path / "tls"
    tls.mkdir()
    for name in ("tls.crt", "tls.key"):
        (tls / name).touch()

    hosts = ("--host", "llm.example.org", "--host=localhost", "--host", "fd00::7")
    assert _create_secrets(tmp_path, *hosts).returncode == 0
    assert _create_secrets(tmp_path).returncode == 0

    assert (tls / "hosts.conf").read_text() == "server_name llm.example.org [fd00::7];\n"
    assert _create_secrets(tmp_path, "--host", "localhost").returncode == 0
    assert not (tls / "hosts.conf").exists()
    assert "include tls/hosts*.conf;\n" in (_ROOT / "deploy/nginx/site.conf").read_text()


@pytest.mark.parametrize(
    ("variables", "port"),
    [("", "8443"), ("GATEWAY_TLS_PORT=8443\nGATEWAY_TLS_PORT=443\n", "443")],
)
def test_port_of_the_secrets_script(tmp_path: Path, variables: str, port: str) -> None:
    """The command that the script shows has the port that Compose reads from .env."""
    (tmp_path / ".env").write_text(variables)
    (tmp_path / "docker").write_text('#!/bin/sh\n[ "$1" != run ] || echo "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    folder = tmp_path / "deploy"
    folder.mkdir()

    done = _create_secrets(folder, "--host", "llm.example.org", path=tmp_path)

    assert done.returncode == 0
    assert f" --env GATEWAY_TLS_PORT={port} " in done.stdout
    assert done.stdout.endswith("/dev-ca --host llm.example.org\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--hots", "llm.example.org"], 2),
        (["llm.example.org"], 2),
        (["--host"], 2),
        (["--host", ""], 2),
        (["--host", "--host"], 2),
        (["--host", "a; include /etc/passwd"], 2),
    ],
)
def test_arguments_of_the_secrets_script(tmp_path: Path, arguments: list[str], code: int) -> None:
    """The script writes nothing if it is asked for help or an argument is wrong."""
    done = _create_secrets(tmp_path, *arguments)

    assert done.returncode == code
    assert "--host" in (done.stderr if code else done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["create-secrets.sh"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["--help"], 0), ([], 2), ([""], 2), (["0.1 0"], 2), (["-x"], 2), (["0.1.0"], 1)],
)
def test_arguments_of_the_rolling_update(tmp_path: Path, arguments: list[str], code: int) -> None:
    """The script refuses what is no tag, and fails if no gateway runs."""
    done = _run_copy("rolling-update.sh", tmp_path, *arguments)

    assert done.returncode == code
    expected = "no gateway of docker-compose.full.yml runs" if code == 1 else "usage: "
    assert expected in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ("", "docker-compose.full.yml"),
        ("GATEWAY_TLS_PORT=443\n", "docker-compose.full.yml"),
        ("COMPOSE_FILE=docker-compose.full.yml:docker-compose.override.yml\n", "that of .env"),
    ],
)
def test_files_of_the_rolling_update(tmp_path: Path, variables: str, expected: str) -> None:
    """Replaced gateways keep the overrides that .env names, which Compose reads by itself."""
    (tmp_path / ".env").write_text(variables)
    compose = tmp_path / "compose"
    compose.write_text('#!/bin/sh\necho "${COMPOSE_FILE:-that of .env}" >&2\n')
    compose.chmod(0o755)
    folder = tmp_path / "deploy"
    folder.mkdir()

    done = _run_copy("rolling-update.sh", folder, "0.1.0", compose=str(compose))

    assert done.stderr.splitlines()[0] == expected


_DOCKER = """\
#!/bin/sh
# A machine with the gateways of the folder `running`, which have the images that their files name.
cd "$(dirname "$0")/running"
case "$*" in
    ps\\ *status=running*) ls ;;
    ps\\ *) ;;
    inspect*Labels*) echo project ;;
    inspect*Image*) shift 3; for id; do echo "healthy $(cat "$id") $id"; done ;;
    inspect*Health*) echo healthy ;;
    inspect*Networks*) echo "project_frontend 10.0.0.$4" ;;
    image\\ inspect*) echo "${GATEWAY_VERSION}" ;;
    stop\\ *) [ ! -e ../interrupted ] || kill -INT $PPID ;;
    rm\\ *) rm "$2" ;;
    compose\\ ps*) ls ;;
    compose\\ up*)
        set -- "${8#gateway=}"
        number=0
        while [ "$(ls | wc -l)" -lt "$1" ]; do
            number=$((number + 1))
            [ -e "$GATEWAY_VERSION-$number" ] || echo "$GATEWAY_VERSION" >"$GATEWAY_VERSION-$number"
        done
        ;;
esac
"""


def test_interrupted_rolling_update(tmp_path: Path) -> None:
    """A rolling update that is interrupted goes on, or back, to as many gateways as before."""
    running = tmp_path / "running"
    running.mkdir()
    for number in range(1, 4):
        (running / f"1-{number}").write_text("1\n")
    for name, content in {"docker": _DOCKER, "sleep": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    script = tmp_path / "deploy" / "rolling-update.sh"
    script.parent.mkdir()
    script.write_bytes((_ROOT / "deploy" / "rolling-update.sh").read_bytes())

    def update(version: str, *, is_interrupted: bool = False) -> tuple[int, list[str]]:
        flag = tmp_path / "interrupted"
        flag.touch() if is_interrupted else flag.unlink(missing_ok=True)
        done = subprocess.run(
            ["/bin/sh", str(script), version],
            env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            check=False,
            capture_output=True,
            timeout=30,
        )
        return done.returncode, sorted(path.name for path in running.iterdir())

    assert update("2") == (0, ["2-1", "2-2", "2-3"])
    assert update("3", is_interrupted=True) == (130, ["2-1", "2-2", "2-3", "3-1"])
    assert update("3") == (0, ["3-1", "3-2", "3-3"])
    assert update("4", is_interrupted=True) == (130, ["3-1", "3-2", "3-3", "4-1"])
    assert update("3") == (0, ["3-1", "3-2", "3-3"])


def test_secrets_script_with_a_part(tmp_path: Path) -> None:
    """The script refuses to make a password for a database that has another one."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "postgres_password").touch()

    done = _create_secrets(tmp_path)

    assert done.returncode == 1
    assert done.stderr == (
        "deploy/secrets has only some of: postgres_password maxgate_database__url. "
        "Restore the others, or remove these.\n"
    )


def test_gpus() -> None:
    """Each further MAX has a GPU of its own, and is found by the name of the first one."""
    devices = {
        name: engine["deploy"]["resources"]["reservations"]["devices"]
        for name, engine in _GPUS.items()
    }

    assert devices == {
        f"max-{number}": [
            {"driver": "nvidia", "device_ids": [str(number)], "capabilities": ["gpu"]}
        ]
        for number in (1, 2, 3)
    }
    expected = build_environment(metrics_port=8001, telemetry=False)
    expected.pop("MAX_SERVE_METRICS_ENDPOINT_PORT")  # 8001 is MAX's default
    for engine in _GPUS.values():
        assert engine["networks"] == {"engine": {"aliases": ["max"]}}
        assert engine["environment"].items() >= expected.items()
        assert "ports" not in engine


@pytest.mark.parametrize(("memory", "batch"), [(24, 32), (40, 64), (80, 128)])
def test_gpu_cards(memory: int, batch: int) -> None:
    """The card for a size of GPU differs from the bundled one in batch size and memory only."""
    [bundled] = load_cards([_ROOT / "models" / "llama-3.3-8b-instruct.yaml"])
    [card] = load_cards([_ROOT / "deploy" / "cards" / f"llama-3.3-8b-instruct-{memory}gb.yaml"])

    assert card.max is not None
    assert card.max.max_batch_size == batch
    assert card.max.memory_gb is not None
    assert card.max.memory_gb < memory
    changed = {"max_batch_size": batch, "memory_gb": card.max.memory_gb}
    assert bundled.max is not None
    assert card.max == bundled.max.model_copy(update=changed)
    assert card == bundled.model_copy(update={"max": card.max, "description": card.description})
