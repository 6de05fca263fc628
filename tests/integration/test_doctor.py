"""`maxgate doctor` finds each planted fault, and nothing in a healthy installation."""

import shutil
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from maxgate.app import create_app
from maxgate.auth.pepper_check import accept_peppers
from maxgate.auth.settings import AuthSettings
from maxgate.doctor.certificates import check_server
from maxgate.doctor.findings import Finding
from maxgate.installation import Installation as InstalledPackage
from maxgate.settings import Settings
from maxgate.stores.migrate import upgrade_database
from maxgate.stores.settings import DatabaseSettings
from tests.conftest import ROOT
from tests.fakes.doctor import Installation, VersionedMax
from tests.fakes.gateway import SMALL_CARD
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.redis_server import start_redis
from tests.fakes.server import serving

TLS_FILES = ROOT / "tests" / "data" / "tls"
PEPPER = "p" * 64
MODEL = "smollm2-135m-instruct"
KEYS = {"mode": "keys", "pepper": [PEPPER]}
PRICES = [{"model": MODEL, "price": {"input": 1}}]
BUDGET = {"budgets": [{"unit": "money", "window": "day", "amount": 5}]}


@pytest.fixture
async def installation(
    tmp_path: Path, small_model: Path, embedding_model: Path
) -> AsyncIterator[Installation]:
    """A healthy installation; the folders have the tokenizers of its models."""
    (tmp_path / "state").mkdir(mode=0o700)
    chosen = Installation(tmp_path)
    async with chosen.running():
        yield chosen


async def test_healthy(installation: Installation) -> None:
    """An installation without faults has no findings, whatever kind of model it serves."""
    installation.serve_chat()
    assert await installation.examine() == []


# Settings of which each has one fault, and its finding: check, level, code, text and remedy.
SETTINGS: dict[str, tuple[dict[str, Any], tuple[str, str, str, str, str]]] = {
    "no authentication": (
        {"server": {"host": "0.0.0.0"}},
        (
            "exposure",
            "error",
            "no_authentication",
            "server.host 0.0.0.0 is reachable from other machines and auth.mode is not set, so the "
            "gateway refuses to start",
            "set auth.mode: keys, then run: maxgate keys create --admin",
        ),
    ),
    "open to everyone": (
        {"server": {"host": "0.0.0.0"}, "auth": {"mode": "none"}},
        (
            "exposure",
            "warning",
            "open_gateway",
            "auth.mode none on server.host 0.0.0.0 serves everyone who can connect",
            "set auth.mode: keys, or server.host: 127.0.0.1",
        ),
    ),
    "public admin API": (
        {"admin": {"port": 9000, "host": "0.0.0.0"}},
        (
            "exposure",
            "warning",
            "admin_exposed",
            "admin.host 0.0.0.0 makes the admin API reachable from other machines",
            "set admin.host: 127.0.0.1",
        ),
    ),
    "every proxy": (
        {"server": {"trusted_proxies": ["0.0.0.0/0"]}},
        (
            "exposure",
            "error",
            "any_proxy_trusted",
            "server.trusted_proxies 0.0.0.0/0 is every address, so any client can forge its own "
            "address and scheme",
            "set server.trusted_proxies to the addresses of the proxies, such as 10.0.0.5",
        ),
    ),
    "every host name": (
        {"server": {"allowed_hosts": ["*"]}},
        (
            "exposure",
            "warning",
            "any_host_allowed",
            "server.allowed_hosts * without authentication lets any web page use the gateway by "
            "DNS rebinding",
            "list the gateway's own names in server.allowed_hosts, or set auth.mode: keys",
        ),
    ),
    "every origin": (
        {"server": {"cors_origins": ["*"]}},
        (
            "exposure",
            "error",
            "any_origin_allowed",
            "server.cors_origins * lets every web page use the gateway without a key",
            "list the origins in server.cors_origins, such as https://chat.example.org",
        ),
    ),
    "short shutdown": (
        {"server": {"shutdown_timeout": 3}},
        (
            "timeouts",
            "warning",
            "short_shutdown",
            "server.shutdown_timeout 3 s cuts longer streams at each stop",
            "set server.shutdown_timeout to the length of the longest stream, such as 120",
        ),
    ),
    "late first token": (
        {"upstream": {"first_token_timeout": 900}},
        (
            "timeouts",
            "warning",
            "first_token_after_response",
            "upstream.first_token_timeout 900 s is longer than upstream.response_timeout 600 s, in "
            "which a whole response has to arrive",
            "set upstream.response_timeout above upstream.first_token_timeout",
        ),
    ),
    "long queue": (
        {"admission": {"max_wait": 600}},
        (
            "timeouts",
            "warning",
            "queue_outlasts_clients",
            "admission.max_wait 600 s is not below upstream.response_timeout 600 s, so clients "
            "give up while they wait",
            "set admission.max_wait: 60",
        ),
    ),
    "breaker": (
        {"breaker": {"open_seconds": 60}},
        (
            "timeouts",
            "warning",
            "breaker_times",
            "breaker.open_seconds 60 is above breaker.max_open_seconds 30",
            "set breaker.max_open_seconds above breaker.open_seconds",
        ),
    ),
    "rare comments": (
        {"server": {"trusted_proxies": ["127.0.0.1"], "keep_alive_interval": 90}},
        (
            "timeouts",
            "warning",
            "keep_alive_too_rare",
            "server.keep_alive_interval 90 s: a proxy closes a stream after 60 s of silence by "
            "default",
            "set server.keep_alive_interval: 15",
        ),
    ),
    "early close": (
        {"server": {"trusted_proxies": ["127.0.0.1"], "keep_alive_timeout": 5}},
        (
            "timeouts",
            "warning",
            "connections_close_early",
            "server.keep_alive_timeout 5 s: a proxy uses idle connections for 60 s by default, so "
            "some requests get 502",
            "set server.keep_alive_timeout: 75",
        ),
    ),
    "workers": (
        {"server": {"workers": 9}},
        (
            "sizes",
            "warning",
            "workers_exceed_cores",
            "server.workers 9 on 4 CPU cores: workers slow each other down",
            "set server.workers: 4",
        ),
    ),
    "small queue": (
        {"admission": {"max_queue_bytes": 1000}},
        (
            "sizes",
            "warning",
            "queue_smaller_than_body",
            "admission.max_queue_bytes 1000 is below server.max_body_bytes 10000000, so the "
            "longest prompts are refused when all slots are in use",
            "set admission.max_queue_bytes above server.max_body_bytes",
        ),
    ),
    "few connections": (
        {"admission": {"slots": 8}, "upstream": {"max_connections": 4}},
        (
            "sizes",
            "warning",
            "slots_exceed_connections",
            "admission.slots 8 is above upstream.max_connections 4, so some slots are never used",
            "set upstream.max_connections above admission.slots",
        ),
    ),
    "many slots": (
        {"admission": {"slots": 64}},
        (
            "engines",
            "warning",
            "slots_exceed_batch",
            "admission.slots 64 is above the batch size 32 of the card all-minilm-l6-v2, so "
            "requests wait in MAX, where no fairness or priority applies",
            "set admission.slots: 32, or raise max_batch_size in the card and MAX",
        ),
    ),
    "no ledger": (
        {"pricing": {"rate_cards": PRICES}},
        (
            "accounting",
            "warning",
            "ledger_off",
            "pricing.rate_cards is set and usage.enabled is false, so no usage is recorded to "
            "charge or explain",
            "set usage.enabled: true",
        ),
    ),
    "no prices": (
        {"limits": {"everyone": BUDGET}, "usage": {"enabled": True}},
        (
            "accounting",
            "error",
            "budget_without_prices",
            "limits have a budget of money, and pricing.rate_cards is empty, so it is never "
            "reached",
            "set pricing.rate_cards (docs/pricing.md)",
        ),
    ),
    "metrics folder": (
        {"telemetry": {"metrics_dir": "/dev/null"}},
        (
            "metrics",
            "error",
            "metrics_folder_unusable",
            "telemetry.metrics_dir /dev/null: this user cannot write to a folder there",
            "choose another folder, or remove telemetry.metrics_dir",
        ),
    ),
    "database": (
        {"auth": KEYS, "database": {"url": "postgresql://gate:hunter2@127.0.0.1:1/gate"}},
        (
            "database",
            "error",
            "database_unreachable",
            "the database at 127.0.0.1:1/gate: connection failed: connection to server at "
            '"127.0.0.1", port 1 failed: Connection refused Is the server running on that host and '
            "accepting TCP/IP connections?",
            "start the database, or correct database.url (MAXGATE_DATABASE__URL)",
        ),
    ),
    "Redis": (
        {"redis": {"url": "redis://:hunter2@127.0.0.1:1/0"}},
        (
            "redis",
            "error",
            "redis_unreachable",
            "Redis at 127.0.0.1:1: Error 111 connecting to 127.0.0.1:1. Connect call failed "
            "('127.0.0.1', 1).",
            "start Redis, or correct redis.url (MAXGATE_REDIS__URL)",
        ),
    ),
    "missing key file": (
        {"auth": KEYS, "database": {"url": "none"}},
        (
            "keys",
            "error",
            "keys_unusable",
            "setting auth.keys_file: {state}/keys.yaml does not exist",
            "`maxgate keys create --file` writes it",
        ),
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
async def test_settings(installation: Installation, name: str) -> None:
    """Each setting that is wrong has a finding of its own, and no other."""
    installation.settings, expected = SETTINGS[name]
    place = str(installation.folder / "state")
    wanted = tuple(field.replace("{state}", place) for field in expected)
    assert [list_fields(finding) for finding in await installation.examine()] == [wanted]


def list_fields(finding: Finding) -> tuple[str, str, str, str, str]:
    """Return the fields in the order of the table above."""
    return (finding.check, finding.level, finding.code, finding.text, finding.remedy)


def plant_file_limit(installation: Installation) -> str:
    installation.host.files = 256
    return (
        "sizes warning few_open_files: the limit of open files is 256, and the gateway needs 1024: "
        "one per waiting request and two per running one | raise it: `ulimit -n`, LimitNOFILE= of "
        "systemd, --ulimit of docker"
    )


def plant_root(installation: Installation) -> str:
    installation.host.root = True
    return (
        "state warning runs_as_root: this user is root, and the gateway needs none of root's "
        "rights | start the gateway as another user (User= of systemd, `user:` of Compose)"
    )


def plant_memory(installation: Installation) -> str:
    installation.settings = {"usage": {"enabled": True}}
    installation.host.file_system = "tmpfs"
    return (
        "state warning state_in_memory: state_dir {state} is on tmpfs: keys, pepper and usage are "
        "lost at the next restart | set state_dir to a folder on a disk, or mount a volume there"
    )


def plant_network_share(installation: Installation) -> str:
    installation.host.file_system = "nfs4"
    return (
        "state error state_on_network: state_dir {state} is on nfs4, where SQLite and locks of "
        "files are not safe | set state_dir to a local disk, and database.url to a PostgreSQL to "
        "share it"
    )


def plant_full_disk(installation: Installation) -> str:
    installation.settings = {"usage": {"enabled": True}}
    installation.host.free = 300 * 1024**2
    return (
        "state warning little_space_for_ledger: state_dir {state} has 300 MiB free, less than "
        "usage.max_spool_bytes 1.0 GiB | free disk space, or lower usage.max_spool_bytes"
    )


def plant_open_folder(installation: Installation) -> str:
    (installation.folder / "state").chmod(0o777)
    return (
        "state error state_open: state_dir {state}: other users can replace keys and databases in "
        "it | run: chmod go-w {state}"
    )


def plant_readable_pepper(installation: Installation) -> str:
    plant_keys(installation)
    pepper = installation.folder / "pepper"
    pepper.write_text(PEPPER)
    pepper.chmod(0o644)
    installation.settings["auth"] = {"mode": "keys", "pepper_file": pepper}
    return (
        "secrets warning secret_readable: {folder}/pepper has the pepper and is readable by other "
        "users (mode 644) | run: chmod 600 {folder}/pepper"
    )


def plant_readable_config(installation: Installation) -> str:
    config = installation.folder / "maxgate.yaml"
    config.write_text(f"auth: {{mode: keys, pepper: [{PEPPER}]}}")
    config.chmod(0o640)
    installation.config_files = [config]
    plant_keys(installation)
    return (
        "secrets warning secret_readable: {folder}/maxgate.yaml has a secret and is readable by "
        "other users (mode 640) | run: chmod 600 {folder}/maxgate.yaml"
    )


def plant_generated_pepper(installation: Installation) -> str:
    pepper = installation.folder / "state" / "pepper"
    pepper.write_text(PEPPER)
    pepper.chmod(0o644)
    installation.settings = {"auth": {"mode": "keys"}}
    return (
        "keys error keys_unusable: {state}/pepper: other users may read or write it | run: chmod "
        "600 {state}/pepper"
    )


def plant_keys(installation: Installation) -> None:
    """Authenticate clients by a file with one key."""
    file = installation.folder / "state" / "keys.yaml"
    file.write_text(f"keys: [{{id: key_1, hash: 'hmac-sha256:{'0' * 64}'}}]")
    file.chmod(0o600)
    installation.settings = {"auth": KEYS}


def plant_writable_keys(installation: Installation) -> str:
    plant_keys(installation)
    (installation.folder / "state" / "keys.yaml").chmod(0o666)
    return (
        "secrets error keys_writable: {state}/keys.yaml: other users can add keys to it (mode 666) "
        "| run: chmod go-w {state}/keys.yaml"
    )


def plant_public_server(installation: Installation) -> str:
    plant_keys(installation)
    installation.settings["server"] = {"host": "0.0.0.0"}
    return (
        "exposure warning no_trusted_proxy: server.host 0.0.0.0 is public and "
        "server.trusted_proxies is empty: credentials arrive unencrypted, or all clients count as "
        "one address, that of the proxy | put a proxy with TLS in front (docs/nginx.md), and set "
        "server.trusted_proxies to its address"
    )


def plant_open_metrics(installation: Installation) -> str:
    plant_keys(installation)
    installation.settings["auth"] = {**KEYS, "open_metrics": True}
    installation.settings["server"] = {"host": "0.0.0.0", "trusted_proxies": ["10.0.0.5"]}
    return (
        "exposure warning open_metrics: auth.open_metrics on server.host 0.0.0.0 shows /metrics "
        "and /health to everyone | remove auth.open_metrics, and give Prometheus the key of "
        "auth.metrics_key"
    )


def plant_no_keys(installation: Installation) -> str:
    upgrade_database(DatabaseSettings(), installation.folder / "state")
    installation.settings = {"auth": KEYS}
    return (
        "database warning no_keys: the database has no keys, so every request is refused | run: "
        "maxgate keys create --admin"
    )


def plant_old_schema(installation: Installation) -> str:
    upgrade_database(DatabaseSettings(), installation.folder / "state", revisions=["0001"])
    installation.settings = {"auth": KEYS}
    return (
        "database error database_schema: the database has revision 0001, and this version of "
        "maxgate needs 0006 | back it up, then run: maxgate db upgrade"
    )


def plant_invalid_card(installation: Installation) -> str:
    card = installation.folder / "card.yaml"
    card.write_text("name: small\nprompt: chatml\n")
    installation.settings = {"cards": [card]}
    return (
        "cards error card_invalid: model card {folder}/card.yaml: context_length: Field required | "
        "correct the card; docs/model-cards.md has all fields"
    )


def plant_missing_package(installation: Installation) -> str:
    installation.settings = {"guardrails": [{"name": "mail", "kind": "pii", "action": "mask"}]}
    installation.host.missing = frozenset({"re2"})
    command = InstalledPackage.detect().format_install("guardrails")
    return (
        "packages error package_missing: guardrails needs the package re2, which is not installed "
        f"| run: {command}"
    )


def plant_certificate_key(installation: Installation) -> str:
    folder = installation.folder / "tls"
    folder.mkdir()
    shutil.copy(TLS_FILES / "ca.pem", folder / "tls.crt")
    shutil.copy(TLS_FILES / "key.pem", folder / "tls.key")
    (folder / "tls.key").chmod(0o644)
    return (
        "secrets warning secret_readable: {folder}/tls/tls.key has the private key of the "
        "certificate and is readable by other users (mode 644) | run: chmod 600 "
        "{folder}/tls/tls.key"
    )


PLANTS: list[Callable[[Installation], str]] = [
    plant_file_limit,
    plant_root,
    plant_memory,
    plant_network_share,
    plant_full_disk,
    plant_open_folder,
    plant_readable_pepper,
    plant_readable_config,
    plant_generated_pepper,
    plant_writable_keys,
    plant_public_server,
    plant_open_metrics,
    plant_no_keys,
    plant_old_schema,
    plant_invalid_card,
    plant_missing_package,
    plant_certificate_key,
]


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__.removeprefix("plant_"))
async def test_files_and_machine(
    installation: Installation, plant: Callable[[Installation], str]
) -> None:
    """Each fault of files and of the machine has a finding of its own, and no other."""
    expected = plant(installation)
    places = {"folder": installation.folder, "state": installation.folder / "state"}
    assert await examine(installation) == [expected.format(**places)]


async def examine(installation: Installation) -> list[str]:
    """Return each finding in one line."""
    return [
        f"{one.check} {one.level} {one.code}: {one.text} | {one.remedy}"
        for one in await installation.examine()
    ]


async def test_engine_down(installation: Installation) -> None:
    """An engine that refuses connections."""
    installation.settings = {"engines": ["http://127.0.0.1:1"]}
    assert await examine(installation) == [
        "engines error engine_unreachable: http://127.0.0.1:1 is unreachable: connection refused | "
        "start the engine (max serve --port 1 ...), or correct `engines`"
    ]


async def test_engine_name(installation: Installation) -> None:
    """The name of several engines that has no address."""
    installation.settings = {"engines": ["dns+http://engines.invalid:8000"]}
    (finding,) = await installation.examine()
    assert (finding.code, finding.remedy) == (
        "engine_name_unknown",
        "correct the name in `engines`, or start the service that it names",
    )


async def test_engine_version(installation: Installation) -> None:
    """A MAX that is older than what maxgate is tested with."""
    installation.engine.version = "25.4.0"
    assert await examine(installation) == [
        f"engines warning engine_version: {installation.engine_url} is MAX 25.4, older than 26.7, "
        "with which maxgate is tested | upgrade it: pip install 'modular>=26.7'"
    ]


async def test_engine_metrics(installation: Installation) -> None:
    """Metrics at the configured URL that are not MAX's."""
    installation.engine.metrics = b"node_load1 0.5\n"
    url = installation.engine_url
    assert await examine(installation) == [
        f"engines warning engine_metrics: {url}: no metrics at {url}/metrics (no metrics of MAX), "
        "so its queue and KV cache are unknown | publish the metrics port of MAX and set "
        "`metrics_url` of the engine, or set upstream.metrics_interval: 0"
    ]


async def test_engine_context(installation: Installation) -> None:
    """An engine with a shorter context than the card's."""
    installation.serve_chat()
    installation.engine.context_length = 2048
    assert await examine(installation) == [
        "engines warning context_too_long: the card smollm2-135m-instruct has context_length 8192, "
        f"and {installation.engine_url} has 2048, so long prompts fail at the engine | start MAX "
        "with --max-length 8192, or set context_length in the card"
    ]


async def test_engine_models(installation: Installation) -> None:
    """A model of an engine that it does not list, and one without a card."""
    installation.engine.models = ["foreign"]
    installation.settings = {"engines": [{**installation.engine_item, "models": [MODEL]}]}
    assert await examine(installation) == [
        f"engines error model_not_listed: {installation.engine_url} does not have the model "
        f"{MODEL} of its `models`; it has foreign | correct `models` of the engine, or load the "
        "model there",
        "engines warning model_without_card: foreign: it has no model card, so the engine formats "
        "its prompts, and text of users can forge turns | write one: docs/model-cards.md",
    ]


async def test_tokenizer(installation: Installation) -> None:
    """A tokenizer that is missing is an error where the gateway must format prompts."""
    installation.serve_chat()
    empty = installation.folder / "cache"
    installation.settings = {"cache_dir": empty, "require_tokenizer": True}
    command = f"{InstalledPackage.detect().format_maxgate()} models prepare {MODEL}"
    assert await examine(installation) == [
        f"engines error tokenizer_missing: {MODEL}: its tokenizer {MODEL} is not here yet, so "
        f"requests get 503 | run: {command}"
    ]


async def test_engine_twice(installation: Installation) -> None:
    """An engine that is listed twice, the second time with a password, which is not shown."""
    url = installation.engine_url.replace("//", "//user:hunter2@")
    installation.settings = {
        "engines": [installation.engine_item, {**installation.engine_item, "url": url}]
    }
    assert await examine(installation) == [
        f"engines error engine_listed_twice: engines lists {installation.engine_url} 2 times | "
        "remove the duplicate; a share of the load is the engine's `weight`"
    ]


async def test_engine_port(installation: Installation) -> None:
    """An engine on this machine that listens on all interfaces."""
    port = int(installation.engine_url.rpartition(":")[2])
    installation.host.listeners = {port: {"127.0.0.1", "0.0.0.0"}}
    installation.settings = {
        "engines": [installation.engine_url],
        "upstream": {"metrics_interval": 0},
    }
    assert await examine(installation) == [
        f"engine ports warning engine_exposed: the API of {installation.engine_url} listens on "
        "0.0.0.0, so other machines reach it without the gateway's keys and limits | start the "
        f"engine with --host 127.0.0.1, or block port {port} in the firewall"
    ]


async def test_clock(installation: Installation) -> None:
    """The clock of an engine that is an hour behind."""
    installation.host.time_offset = 3600
    assert await examine(installation) == [
        f"engines warning clock_differs: the clock of the engine {installation.engine_url} is 60 "
        "min behind that of this machine | synchronize the clocks of both machines: `timedatectl "
        "set-ntp true`"
    ]


async def test_redis(installation: Installation) -> None:
    """A Redis that evicts keys, and one that forgets limits."""
    with start_redis() as server, redis.Redis.from_url(server.url) as client:
        limits = {"everyone": {"requests_per_minute": 60}}
        installation.settings = {"redis": {"url": server.url}, "limits": limits}
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert await examine(installation) == [
            "redis error redis_evicts: Redis evicts keys when its memory is full (maxmemory-policy "
            "allkeys-lru), and forgets limits and slots | run: redis-cli config set "
            "maxmemory-policy noeviction",
            "redis warning redis_forgets: Redis writes nothing to disk, so limits and budgets "
            "begin anew when it restarts | run: redis-cli config set appendonly yes",
        ]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("save", "60 1")
        assert await examine(installation) == []
        plant_keys(installation)
        installation.settings["redis"] = {"url": server.url}
        upgrade_database(DatabaseSettings(), installation.folder / "state")
        assert await examine(installation) == [
            "database warning keys_not_shared: redis.url is for several gateways, and the keys are "
            "in SQLite, so each gateway has its own | set database.url to a PostgreSQL that all "
            "gateways use"
        ]


async def test_postgres(installation: Installation, postgres: PostgresServer) -> None:
    """A PostgreSQL without tables, with another pepper, and with too few connections."""
    schema = f"test_{uuid4().hex}"
    database = {"url": postgres.url, "schema_name": schema}
    plant_keys(installation)
    installation.settings["database"] = database
    assert await examine(installation) == [
        "database error database_schema: the database has no maxgate tables yet | run: maxgate db "
        "upgrade"
    ]
    upgrade_database(DatabaseSettings(**database), installation.folder)
    assert await examine(installation) == []
    installation.settings["database"] = {**database, "pool_size": 60}
    installation.settings["server"] = {"workers": 2}
    assert await examine(installation) == [
        "database error too_many_connections: server.workers 2 times database.pool_size 60 is "
        "above max_connections 100 of the database | set database.pool_size: 25, or raise "
        "max_connections"
    ]
    accept_peppers(
        AuthSettings(mode="keys", pepper=["q" * 64]), DatabaseSettings(**database), Path()
    )
    installation.settings["database"] = database
    (finding,) = await installation.examine()
    assert finding.code == "wrong_pepper"
    assert finding.text == (
        "setting auth.pepper: no key in the database was hashed with this pepper, so all of them "
        "would be refused"
    )


async def test_gateway(installation: Installation) -> None:
    """A running gateway that is healthy, has lost its engine, or is another program."""
    settings = Settings(engines=["http://127.0.0.1:1"], cards=[SMALL_CARD])
    async with serving(create_app(settings), date_header=False) as installation.url:
        url = installation.url
        assert await examine(installation) == [
            f"gateway error gateway_lost_engine: {url} cannot use the engine http://127.0.0.1:1: "
            "connection refused | start the engine, or remove it: maxgate engines remove"
        ]
    assert await examine(installation) == [
        f"gateway error gateway_unreachable: no gateway responds at {url}: All connection attempts "
        "failed | start it with `maxgate serve`, or correct --url"
    ]
    settings = Settings(engines=[installation.engine_url])
    async with serving(create_app(settings), date_header=False) as installation.url:
        assert await examine(installation) == []
    installation.url = installation.engine_url
    assert await examine(installation) == [
        f"gateway error not_maxgate: {installation.engine_url} is not a gateway of maxgate | "
        "correct --url, or the proxy"
    ]


async def test_certificates(installation: Installation) -> None:
    """The certificate of a proxy in front: untrusted, trusted, and for another name."""
    tls = {"ssl_certfile": TLS_FILES / "ca.pem", "ssl_keyfile": TLS_FILES / "key.pem"}
    installation.settings = {"server": {"trusted_proxies": ["127.0.0.1"]}}
    async with serving(create_app(Settings(engines=[installation.engine_url])), **tls) as url:
        installation.url = url.replace("http:", "https:")
        place = url.removeprefix("http://")
        assert await examine(installation) == [
            f"gateway error certificate_untrusted: the certificate of {place} is not trusted: "
            "self-signed certificate | send the whole chain from the server; for an own CA, set "
            "SSL_CERT_FILE or `ca_file`"
        ]
        installation.settings = {}
        assert [one.code for one in await installation.examine()] == [
            "certificate_untrusted",
            "no_trusted_proxy",
        ]


def write_certificate(folder: Path, *, name: str = "localhost", days: float = 90) -> None:
    """Write a self-signed certificate for a name that expires in some days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "tls.key").touch(mode=0o600)
    (folder / "tls.key").write_bytes(text)


async def test_certificate_files(installation: Installation) -> None:
    """Certificate and key of the proxy: valid, about to expire, expired, of another key, alone."""
    folder = installation.folder / "tls"
    folder.mkdir()
    renew = "renew the certificate; for development: maxgate certs dev"
    write_certificate(folder)
    assert await examine(installation) == []
    write_certificate(folder, days=3.5)
    assert await examine(installation) == [
        f"certificates warning certificate_expires: the certificate of {folder}/tls.crt expires in "
        f"3 days | {renew}"
    ]
    write_certificate(folder, days=-1)
    assert await examine(installation) == [
        f"certificates error certificate_expired: the certificate of {folder}/tls.crt has expired "
        f"| {renew}"
    ]
    (folder / "tls.key").write_bytes((TLS_FILES / "key.pem").read_bytes())
    assert await examine(installation) == [
        f"certificates error certificate_key: the key {folder}/tls.key does not belong to "
        f"{folder}/tls.crt | run: maxgate certs dev"
    ]
    (folder / "tls.key").unlink()
    assert await examine(installation) == [
        f"certificates error certificate_incomplete: {folder}/tls.key does not exist | run: "
        "maxgate certs dev"
    ]


@pytest.mark.parametrize(
    ("name", "days", "finding"),
    [
        ("localhost", 90, None),
        ("localhost", 3.5, "certificate_expires"),
        ("localhost", -1, "certificate_expired"),
        ("gateway.example.org", 90, "certificate_host"),
    ],
)
async def test_certificate_of_server(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    days: float,
    finding: str | None,
) -> None:
    """The certificate that a proxy sends, if its CA is trusted."""
    folder = installation.folder
    write_certificate(folder, name=name, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "tls.crt"))
    tls = {"ssl_certfile": folder / "tls.crt", "ssl_keyfile": folder / "tls.key"}
    async with serving(VersionedMax(), **tls) as url:
        place = url.replace("http://127.0.0.1", "https://localhost")
        found = await check_server(place, installation.host.now())
    assert [one.code for one in found] == ([] if finding is None else [finding])


async def test_busy_port(installation: Installation) -> None:
    """Another program that listens at the gateway's address."""
    port = int(installation.engine_url.rpartition(":")[2])
    installation.settings = {"server": {"port": port}}
    assert await examine(installation) == [
        f"listener error port_unusable: the gateway cannot listen on 127.0.0.1:{port}: Address "
        "already in use | stop the other program, or choose another server.host and server.port"
    ]
