"""The scratch copy of the operator's configuration, and gateways that run with it.

Nothing in it leads to production: engines, database, Redis, keys and folders are its own.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

import httpx
import yaml

from maxgate.drill.client import Client
from maxgate.drill.relay import Relay, relaying
from maxgate.errors import MaxgateError
from maxgate.model_cards.card import ModelCard
from maxgate.model_cards.loader import ModelFiles, load_cards
from maxgate.server.instances import find_instances
from maxgate.settings import Settings
from maxgate.settings_names import PREFIX, STANDARD_VARIABLES
from maxgate.stores.settings import NO_DATABASE

MAX_SLOTS: Final = 4
MAX_WORKERS: Final = 2
MAX_ENGINES: Final = 2
# Longest times in the scratch instance, so that each failure is over soon.
_LONGEST: Final[Mapping[str, Mapping[str, float]]] = {
    "upstream": {
        "first_token_timeout": 3,
        "idle_timeout": 3,
        "response_timeout": 10,
        "unhealthy_probe_interval": 0.2,
        "probe_interval": 1,
    },
    "admission": {"max_wait": 10},
    "continuation": {"restart_window": 5},
    "server": {"shutdown_timeout": 10, "max_body_bytes": 10_000_000},
}
# They would contact other servers, or are about what the drill does not start.
_DROPPED: Final = (
    "jwt",
    "guardrails",
    "alerts",
    "limits",
    "swap",
    "engine",
    "admin",
    "tracing",
)


class DrillFailed(MaxgateError):
    """The scratch instance could not be started; the message has the gateway's own words."""


@dataclass(frozen=True, slots=True)
class Scratch:
    """The state that all failures of a drill share.

    `template` is a state_dir with a key and a database, which each gateway gets a copy of. `key` is
    empty without authentication. `stores` are the URLs of a scratch PostgreSQL (`database`) and a
    scratch Redis (`redis`), if there are any.
    """

    folder: Path
    template: Path
    config: Mapping[str, Any]
    settings: Settings
    card: ModelCard
    key: str
    changes: Sequence[str]
    stores: Mapping[str, str]

    @property
    def engine_count(self) -> int:
        """The number of scripted engines."""
        return min(sum(2 if one.url.startswith("dns+") else 1 for one in self.settings.engines), 2)


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running scratch gateway."""

    process: asyncio.subprocess.Process
    client: Client
    state_dir: Path
    log: Path
    relays: Mapping[str, Relay]

    def list_workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [pid for instance in find_instances(self.state_dir) for pid in instance.workers]


def build_config(settings: Settings) -> tuple[dict[str, Any], list[str]]:
    """Return the operator's settings for a scratch instance, and what was changed in words."""
    replaced = {"engines", "redis"}  # with their passwords
    config = settings.model_dump(mode="json", exclude_unset=True, exclude=replaced)
    changes = [f"{name} is left out" for name in _DROPPED if config.pop(name, None)]
    for section, longest in _LONGEST.items():
        values = config.setdefault(section, {})
        for name, limit in longest.items():
            chosen = getattr(getattr(settings, section), name)
            if chosen > limit:
                values[name] = limit
                if name in getattr(settings, section).model_fields_set:
                    changes.append(f"{section}.{name} {chosen:g} is {limit:g}")
    server = config["server"]
    server["host"] = "127.0.0.1"
    server["workers"] = min(settings.server.workers, MAX_WORKERS)
    if settings.server.workers > MAX_WORKERS:
        changes.append(f"server.workers {settings.server.workers} is {MAX_WORKERS}")
    _scale_admission(settings, config, changes)
    config["auth"] = {"mode": "none"}
    if settings.auth.has_keys or settings.auth.has_jwt:
        config["auth"] = {"mode": "keys"}
    if settings.auth.has_jwt:
        changes.append(f"auth.mode {settings.auth.mode} is keys")
    config["database"] = {} if settings.database.is_enabled else {"url": "none"}
    config["upstream"]["discover_metrics"] = False
    config["telemetry"] = {"log_format": "json"}
    config["cards"] = [str(path.expanduser().absolute()) for path in settings.cards]
    config["cache_dir"] = str(settings.cache_dir.expanduser().absolute())
    return config, changes


def _scale_admission(settings: Settings, config: dict[str, Any], changes: list[str]) -> None:
    """Give each engine few slots, and scale the length of the queue with them."""
    admission = settings.admission
    if not admission.enabled:
        return
    slots = min(admission.slots or MAX_SLOTS, MAX_SLOTS)
    values = config["admission"]
    values["slots"] = slots
    if admission.slots is not None and admission.slots > slots:
        changes.append(f"admission.slots {admission.slots} is {slots}")
    if admission.max_queue is not None:
        scaled = round(admission.max_queue * slots / (admission.slots or slots))
        values["max_queue"] = scaled
        if scaled != admission.max_queue:
            changes.append(f"admission.max_queue {admission.max_queue} is {scaled}")


def choose_card(settings: Settings) -> ModelCard:
    """Return the chat card to drill with: one whose tokenizer is here, if there is one.

    Raises ConfigurationError for invalid cards, DrillFailed without a chat model.
    """
    cards = load_cards(settings.cards, settings.cache_dir)
    files = ModelFiles.locate(settings.cache_dir)
    chats = [card for card in cards if card.task == "chat" and card.load == "always"]
    if not chats:
        raise DrillFailed("no card of a chat model that is always loaded; the drill needs one")
    has_tokenizer = [card for card in chats if card.prompt != "engine"]
    here = [card for card in has_tokenizer if files.find_tokenizer(card.tokenizer) is not None]
    return (here or chats)[0]


async def prepare(settings: Settings, folder: Path, stores: Mapping[str, str]) -> Scratch:
    """Build what all gateways need in this empty folder; raises as `choose_card` does."""
    config, changes = build_config(settings)
    changes += _add_stores(settings, config, stores)
    template = folder / "state"
    template.mkdir(mode=0o700)
    card = choose_card(settings)
    key = ""
    if config["auth"]["mode"] == "keys":
        key = await _create_key(folder, template, config)
    scratch_settings = Settings.model_validate({**config, "engines": settings.engines})
    return Scratch(folder, template, config, scratch_settings, card, key, changes, stores)


def _add_stores(settings: Settings, config: dict[str, Any], stores: Mapping[str, str]) -> list[str]:
    """Set the scratch stores; return what was changed in words."""
    name = f"maxgate_drill_{token_hex(4)}"
    changes = []
    if "database" in stores:
        config["database"] = {"url": stores["database"], "schema_name": name}
        changes.append(f"database.url is that of --database, in the schema {name}")
    elif settings.database.is_postgres:
        changes.append("database.url is a scratch SQLite")
    if "redis" in stores:
        config["redis"] = {"url": stores["redis"], "key_prefix": name}
        changes.append(f"redis.url is that of --redis, with the key_prefix {name}")
    elif settings.redis.url is not None:
        changes.append("redis.url is left out")
    return changes


async def _create_key(folder: Path, state_dir: Path, config: Mapping[str, Any]) -> str:
    file = folder / "keys.config.yaml"
    _write_config(file, {**config, "state_dir": str(state_dir)})
    database = config["database"].get("url")
    if database not in {None, NO_DATABASE}:
        await _run(file, "db", "upgrade")
    kind = ["--file"] if database == NO_DATABASE else []
    out = await _run(file, "keys", "create", "--name", "drill", "--json", *kind)
    return str(json.loads(out)["key"])


async def _run(config: Path, *arguments: str) -> bytes:
    """Run a command of maxgate with this configuration; return its output, or raise DrillFailed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "maxgate", *arguments),
        env=_build_environment(config),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise DrillFailed(f"maxgate {' '.join(arguments[:2])} failed: {err.decode().strip()}")
    return out


def _write_config(file: Path, config: Mapping[str, Any]) -> None:
    file.touch(mode=0o600)
    file.write_text(yaml.safe_dump(dict(config)))


def _build_environment(config: Path) -> dict[str, str]:
    """Return the environment without any setting of the operator.

    Temporary files are beside the configuration: a gateway that is killed leaves them.
    """
    temporary = config.parent / "tmp"
    temporary.mkdir(mode=0o700, exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(PREFIX)
        and name.upper().removesuffix("_FILE") not in STANDARD_VARIABLES
    }
    sources = {"CONFIG": str(config), "ENV_FILE": "", "SECRETS_DIR": ""}
    own = {PREFIX + name: value for name, value in sources.items()}
    return {**kept, **own, "TMPDIR": str(temporary)}


@asynccontextmanager
async def run_gateway(
    scratch: Scratch,
    name: str,
    engines: Sequence[str],
    overrides: Mapping[str, Mapping[str, Any]],
    *,
    start_timeout: float,
) -> AsyncIterator[Gateway]:
    """Run `maxgate serve` in front of these engines; kill it at the end.

    `overrides` are merged over the sections of the scratch configuration. Raises DrillFailed if it
    does not start within `start_timeout` seconds.
    """
    state_dir = scratch.folder / f"{name}.state"
    shutil.copytree(scratch.template, state_dir)
    sections = {one: {**scratch.config.get(one, {}), **two} for one, two in overrides.items()}
    config = {**scratch.config, **sections, "engines": list(engines), "state_dir": str(state_dir)}
    config["server"] = {**config["server"], "port": _find_port()}
    async with AsyncExitStack() as stack:
        relays = {
            store: await stack.enter_async_context(relaying(url))
            for store, url in scratch.stores.items()
        }
        for store, relay in relays.items():
            config[store] = {**config[store], "url": relay.url}
        gateway = await stack.enter_async_context(_serve(scratch, name, config, relays))
        async with _limited(start_timeout, gateway.log):
            workers = config["server"]["workers"]
            while not await _is_ready(gateway, len(engines), workers):  # noqa: ASYNC110  # over HTTP
                await asyncio.sleep(0.05)
        yield gateway


@asynccontextmanager
async def _serve(
    scratch: Scratch, name: str, config: Mapping[str, Any], relays: Mapping[str, Relay]
) -> AsyncIterator[Gateway]:
    """Run `maxgate serve` with this configuration; kill it at the end."""
    file, log = scratch.folder / f"{name}.config.yaml", scratch.folder / f"{name}.log"
    _write_config(file, config)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            # The gateway ends with the drill, however that ends.
            *(sys.executable, "-m", "maxgate.engine.parent_death"),
            *(sys.executable, "-m", "maxgate", "serve"),
            env=_build_environment(file),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is for the drill
        )
    url = f"http://127.0.0.1:{config['server']['port']}"
    client = Client(url, scratch.key, scratch.card.name)
    try:
        yield Gateway(process, client, Path(config["state_dir"]), log, relays)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


def _find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@asynccontextmanager
async def _limited(seconds: float, log: Path) -> AsyncIterator[None]:
    """Limit the time of a gateway's start; raises DrillFailed."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DrillFailed(
            f"the scratch gateway did not start in {seconds:.0f} s: {_read_end(log)}"
        ) from None


async def _is_ready(gateway: Gateway, engines: int, workers: int) -> bool:
    if gateway.process.returncode is not None:
        raise DrillFailed(f"the scratch gateway did not start: {_read_end(gateway.log)}")
    try:
        response = await gateway.client.get("/health")
        states = [engine["state"] for engine in response.json()["engines"]]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return False
    # Each worker logs this once per engine; /health is that of one worker.
    found = gateway.log.read_bytes().count(b'"message":"engine is healthy"')
    return states == ["healthy"] * engines and found >= engines * workers


def _read_end(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
