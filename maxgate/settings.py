"""All settings of the gateway, and their precedence.

A flag overrides an environment variable, which overrides a file in the secrets directory, which
overrides `.env`, which overrides the YAML file, which overrides the default. `maxgate serve`
exports its flags as environment variables (cli/options.py), so that workers get them too.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Annotated, Any, Final, Self

import structlog
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from maxgate.admission.settings import AdmissionSettings
from maxgate.auth.jwt_settings import JwtSettings
from maxgate.auth.settings import AuthSettings
from maxgate.engine.settings import EngineSettings
from maxgate.guardrails.settings import GuardrailRule, check_rules
from maxgate.limits.alert_settings import AlertSettings
from maxgate.limits.settings import LimitSettings
from maxgate.model_swap.settings import SwapSettings
from maxgate.server.settings import AdminSettings, ServerSettings
from maxgate.settings_names import NESTED, PREFIX, InvalidSettings, SettingNames, to_variable
from maxgate.settings_section import Section, list_errors, split_list
from maxgate.settings_sources import Source, merge_sources, read_sources
from maxgate.stores.settings import DatabaseSettings, RedisSettings
from maxgate.telemetry.logging import configure_logging, logs_json
from maxgate.telemetry.settings import TelemetrySettings, TracingSettings
from maxgate.upstream.settings import (
    BreakerSettings,
    ContinuationSettings,
    FailoverSettings,
    ReplicaSettings,
    RetrySettings,
    RoutingSettings,
    SlownessSettings,
    UpstreamSettings,
)
from maxgate.usage.pricing_settings import PricingSettings
from maxgate.usage.settings import UsageSettings

# In place of messages that name Python classes.
_MESSAGES: Final = {
    "path_type": "Input should be a path",
    "dict_type": "Input should be names with values, such as {name: value}",
    "model_type": "Input should be names with values, such as {name: value}",
}


class Settings(Section):
    """The gateway's settings, section by section.

    The constructor reads nothing but its arguments; `load_settings` reads all sources.
    """

    server: ServerSettings = ServerSettings()
    """The HTTP server."""
    admin: AdminSettings = AdminSettings()
    """The listener for the admin API."""
    engine: EngineSettings = EngineSettings()
    """Starting MAX."""
    engines: Annotated[list[ReplicaSettings], NoDecode, BeforeValidator(split_list)] = Field(
        default=[ReplicaSettings(url="http://localhost:8080")]
    )
    """Engines: a list of URLs or `{url: ..., ca_file: ...}` items; comma-separated in variables."""
    cards: Annotated[list[Path], NoDecode, BeforeValidator(split_list)] = Field(default=[])
    """Model cards or folders of cards; comma-separated in variables; default: the bundled cards."""
    require_tokenizer: bool = False
    """Refuse models whose prompts the engine would format, with 503; `prompts` in `/health`."""
    cache_dir: Path = Path("~/.cache/maxgate")
    """Folder for prepared models, compiled models and engine logs; it can be rebuilt."""
    state_dir: Path = Path("~/.local/share/maxgate")
    """Folder for durable state; created when it is first needed."""
    auth: AuthSettings = AuthSettings()
    """Authentication of clients."""
    jwt: JwtSettings = JwtSettings()
    """JSON Web Tokens."""
    upstream: UpstreamSettings = UpstreamSettings()
    """Connections to engines."""
    breaker: BreakerSettings = BreakerSettings()
    """Engines that fail."""
    retries: RetrySettings = RetrySettings()
    """Requests that move to another engine before their first token."""
    slowness: SlownessSettings = SlownessSettings()
    """Engines that are too slow."""
    continuation: ContinuationSettings = ContinuationSettings()
    """Streams that go on at another engine."""
    admission: AdmissionSettings = AdmissionSettings()
    limits: LimitSettings = LimitSettings()
    """Limits of requests and tokens."""
    routing: RoutingSettings = RoutingSettings()
    """The choice between several engines."""
    database: DatabaseSettings = DatabaseSettings()
    """The database of projects, users and API keys."""
    redis: RedisSettings = RedisSettings()
    """Redis, which gateways on several hosts share."""
    guardrails: Annotated[list[GuardrailRule], NoDecode, BeforeValidator(split_list)] = Field(
        default=[]
    )
    """[Rules for content](guardrails.md): a list of `{name: ..., kind: ..., action: ...}` items."""
    pricing: PricingSettings = PricingSettings()
    """Prices of usage."""
    alerts: AlertSettings = AlertSettings()
    """Alerts of budgets."""
    swap: SwapSettings = SwapSettings()
    """Models that are started, stopped and swapped at run time."""
    usage: UsageSettings = UsageSettings()
    """The ledger of requests."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Logs and metrics."""
    tracing: TracingSettings = TracingSettings()
    """Traces."""

    @property
    def needs_key_file(self) -> bool:
        """Whether the file of keys must exist: a setting names it, or there is no database."""
        return self.auth.keys_file is not None or not self.database.is_enabled

    @property
    def failover(self) -> FailoverSettings:
        """The sections that decide what happens when engines fail."""
        return FailoverSettings(
            breaker=self.breaker,
            retries=self.retries,
            slowness=self.slowness,
            continuation=self.continuation,
        )

    @field_validator("engines")
    @classmethod
    def _check_engines(cls, engines: list[ReplicaSettings]) -> list[ReplicaSettings]:
        if not engines:
            raise ValueError("the list is empty; write http://host:port")
        return engines

    @field_validator("guardrails")
    @classmethod
    def _check_guardrails(cls, rules: list[GuardrailRule]) -> list[GuardrailRule]:
        return check_rules(rules)

    @model_validator(mode="after")
    def _check_jwt(self) -> Self:
        if self.auth.has_jwt and self.jwt.issuer is None:
            raise ValueError(
                f"auth.mode: {self.auth.mode} needs jwt.issuer, jwt.audiences and jwt.algorithms; "
                "set them too"
            )
        if self.jwt.issuer is not None and not self.auth.has_jwt:
            raise ValueError(
                "jwt.issuer has no effect without auth.mode jwt or keys+jwt; set it too"
            )
        has_projects = self.auth.has_keys and self.database.is_enabled
        if self.jwt.require_known_project and not has_projects:
            raise ValueError(
                "jwt.require_known_project has no effect without a database of projects; set "
                "auth.mode: keys+jwt, and no database.url: none"
            )
        return self

    @model_validator(mode="after")
    def _check_tracing(self) -> Self:
        if self.tracing.capture_content and self.guardrails:
            raise ValueError(
                "tracing.capture_content would export what guardrails block or mask; remove one "
                "of the two"
            )
        return self

    @model_validator(mode="after")
    def _check_usage(self) -> Self:
        if self.usage.enabled and not self.database.is_enabled:
            raise ValueError(
                "usage.enabled needs a database, and database.url is none; remove one of the two"
            )
        return self


class _Schema(BaseSettings, Settings):
    """The same fields, in the form that the sources of pydantic-settings take."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTED, extra="forbid", frozen=True
    )


@cache
def print_warning(message: str) -> None:
    """Print a warning on stderr, once per process and not again in worker processes.

    It is a log line if the log is JSON.
    """
    if parent_process() is not None:
        return
    if logs_json():
        structlog.get_logger("settings").warning(message)
    else:
        sys.stderr.write(f"maxgate: warning: {message}\n")


def load_settings(warn: Callable[[str], None] = print_warning) -> Settings:
    """Read the settings of this process from all sources.

    Calls `warn` for each old name in use. Raises InvalidSettings with one line for each problem,
    which names the setting and the rule it breaks.
    """
    names = SettingNames(setting_names(), warn)
    sources = read_sources(_Schema, names)
    problems = names.problems
    try:
        settings = Settings.model_validate(merge_sources(sources))
    except ValidationError as error:
        problems += [_describe(details, sources, names) for details in list_errors(error)]
        raise InvalidSettings(problems) from error
    if problems:
        raise InvalidSettings(problems)
    return settings


def _describe(details: ErrorDetails, sources: Sequence[Source], names: SettingNames) -> str:
    message = _MESSAGES.get(details["type"], details["msg"]).removeprefix("Value error, ")
    if not details["loc"]:  # a rule for several sections
        return f"setting {message}"
    paths = [source.path for source in sources if source.has(details["loc"])]
    prefix = f"{paths[-1]}: " if paths and paths[-1] else ""
    name = _format_location(details["loc"])
    if details["type"] == "extra_forbidden":
        return prefix + names.describe_unknown(name)
    if details["type"] == "model_type" and name in Settings.model_fields:
        return prefix + names.describe_section(name)
    return f"{prefix}setting {name}: {message}"


def load_and_configure_logging() -> Settings:
    """Read the settings and configure logging by them.

    Raises ConfigurationError as load_settings does.
    """
    warnings: list[str] = []
    try:
        settings = load_settings(warnings.append)
        configure_logging_by(settings)
        check_use(settings)
    finally:  # in the format of the log, if that is known
        for warning in warnings:
            print_warning(warning)
    return settings


def configure_logging_by(settings: Settings) -> None:
    """Configure logging as the settings say."""
    own = settings.telemetry
    configure_logging(own.log_format, level=own.log_level, levels=own.log_levels)


def check_use(settings: Settings) -> None:
    """Raise InvalidSettings if settings have no effect with the others."""
    if problems := list(_find_unused(settings)):
        raise InvalidSettings(problems)


def _find_unused(settings: Settings) -> Iterator[str]:
    has_keys = settings.auth.has_keys
    uses_database = has_keys and settings.database.is_enabled
    if _is_set("redis.url", settings.redis.url) and not (
        settings.admission.enabled or uses_database or settings.limits.is_enabled
    ):
        yield (
            "setting redis.url has no effect with admission.enabled: false, because only slots, "
            "limits and changes of keys in a database are shared through Redis; remove one of the "
            "two"
        )
    if settings.swap.scale_up_time is not None:
        if settings.engine.mode != "none":
            yield (
                "setting swap.scale_up_time has no effect with engine.mode "
                f"{settings.engine.mode}, because the gateway itself starts the engines; remove it"
            )
        if settings.swap.scale_up_time >= settings.swap.max_wait:
            yield (
                "setting swap.scale_up_time must be less than swap.max_wait, or requests are "
                "refused before their engine has started"
            )
        if not settings.cards:
            yield (
                "setting swap.scale_up_time needs cards: list those of the models that are "
                "scaled, because requests for every other bundled card would wait in vain"
            )
    has_url = settings.database.is_enabled and _is_set("database.url", settings.database.url)
    if has_url and not (has_keys or settings.usage.enabled):
        yield (
            "setting database.url has no effect without auth.mode keys or usage.enabled, because "
            "only API keys, their owners and usage are kept there; set one, or remove the URL"
        )


def _is_set(name: str, value: str | None) -> bool:
    """Return whether a URL is set for maxgate; REDIS_URL may be there for other programs."""
    standard = name.upper().replace(".", "_")
    is_standard = value == os.environ.get(standard) or (
        f"{standard}_FILE" in os.environ and to_variable(name) not in os.environ
    )
    return value is not None and not is_standard


def setting_names(fields: Mapping[str, Any] = Settings.model_fields) -> list[str]:
    """Return the name of every setting, such as `server.port`."""
    names = []
    for name, field in fields.items():
        section = getattr(field.annotation, "model_fields", None)
        names += [name] if section is None else [f"{name}.{n}" for n in setting_names(section)]
    return names


def _format_location(steps: Sequence[int | str]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)[1:]
