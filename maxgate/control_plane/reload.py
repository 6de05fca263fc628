"""Differences between two configurations, as an operator reads them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from maxgate.api.admin.schemas import SettingChange, TakesEffect
from maxgate.auth.file_key_store import load_keys
from maxgate.errors import ConfigurationError, InvalidRequest
from maxgate.model_cards.card import map_names
from maxgate.model_cards.loader import load_cards
from maxgate.settings import Settings, setting_names
from maxgate.upstream.settings import ReplicaSettings, hide_credentials

# The parent process uses these itself; workers read all others when they start.
_OF_PARENT: Final = (
    "server.host",
    "server.port",
    "server.workers",
    "server.shutdown_timeout",
    "engine.",
    "state_dir",
    "swap.age_bound",
    "swap.drain_timeout",
    "swap.warm_up_timeout",
    "telemetry.metrics_dir",
)

_log = structlog.get_logger("control_plane")


class ActiveSettings:
    """The settings that the processes of the gateway run with, by name such as `server.port`."""

    def __init__(self, settings: Settings) -> None:
        self._values = _flatten(settings)

    def compare(self, settings: Settings, *, with_restart: bool = False) -> list[SettingChange]:
        """Return the settings that differ, engines one by one.

        `with_restart`: workers are replaced now.
        """
        old, new = self._values, _flatten(settings)
        changes = compare_engines(old["engines"], new["engines"])
        for name in old:
            if name != "engines" and old[name] != new[name]:
                effect = find_effect(name, with_restart=with_restart)
                before, after = _format(old[name]), _format(new[name])
                changes.append(
                    SettingChange(setting=name, before=before, after=after, takes_effect=effect)
                )
        return changes

    def update(self, settings: Settings, *, with_restart: bool = False) -> None:
        """Take over the settings that take effect now."""
        for name, value in _flatten(settings).items():
            if find_effect(name, with_restart=with_restart) == "now":
                self._values[name] = value


def read_again(load: Callable[[], Settings]) -> Settings:
    """Return the settings of now, after a check of the files that workers read at their start.

    Raises InvalidRequest that names file, setting and rule, also for keys and model cards.
    """
    try:
        settings = load()
        _check_files(settings)
    except ConfigurationError as error:
        _log.error("reload failed, the old configuration stays", error=str(error))
        raise InvalidRequest(
            f"The configuration is invalid, and the old one stays: {error}",
            code="invalid_configuration",
        ) from error
    return settings


def _check_files(settings: Settings) -> None:
    if settings.auth.has_keys:
        is_optional = not settings.needs_key_file
        load_keys(settings.auth, settings.state_dir, is_optional=is_optional)
    cards = load_cards(settings.cards, settings.cache_dir)
    names = map_names(cards)
    settings.pricing.check_names(names)
    settings.limits.name_models(names)


def find_effect(name: str, *, with_restart: bool) -> TakesEffect:
    """Return when a new value of a setting takes effect."""
    if name == "engines":
        return "now"
    if name.startswith(_OF_PARENT):
        return "gateway_restart"
    return "now" if with_restart else "worker_restart"


def compare_engines(
    before: Sequence[ReplicaSettings], after: Sequence[ReplicaSettings]
) -> list[SettingChange]:
    """Return the engines that differ, without credentials."""
    old = {engine.id: engine for engine in before}
    new = {engine.id: engine for engine in after}
    changes = []
    for key in {**old, **new}:
        if old.get(key) == new.get(key):
            continue
        left, right = _describe_engine(old.get(key)), _describe_engine(new.get(key))
        if left == right:
            right = f"{right} with other credentials"
        name = f"engines {(new.get(key) or old[key]).public_url}"
        changes.append(SettingChange(setting=name, before=left, after=right, takes_effect="now"))
    return changes


def log_changes(changes: Sequence[SettingChange]) -> None:
    """Log the changes of a reload, each in a line."""
    if not changes:
        _log.info("configuration reloaded, nothing has changed")
    for change in changes:
        fields = {"setting": change.setting, "before": change.before, "after": change.after}
        if change.takes_effect == "now":
            _log.info("setting changed", **fields)
        else:
            is_of_worker = change.takes_effect == "worker_restart"
            needed = "`maxgate restart`" if is_of_worker else "a new start of `maxgate serve`"
            _log.warning("setting needs a restart", needed=needed, **fields)


def _flatten(settings: Settings) -> dict[str, Any]:
    values: Mapping[str, Any] = dict(settings)
    return {
        name: getattr(values[section], key) if section else values[key]
        for name in setting_names()
        for section, _, key in [name.rpartition(".")]
    }


def _format(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else hide_credentials(str(value))


def _describe_engine(engine: ReplicaSettings | None) -> str | None:
    if engine is None:
        return None
    fields = engine.model_dump(mode="json", exclude_defaults=True)
    credentials = {"credentials": "hidden"} if fields.pop("url") != engine.public_url else {}
    return hide_credentials(json.dumps({**fields, **credentials}))
