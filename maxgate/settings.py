"""Every setting, once. Flags beat the environment, which beats the YAML file, which beats defaults.

Flags are handed to this process and its workers as environment variables (see cli/serve.py), so
there is one way in.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from maxgate.engine.settings import EngineSettings
from maxgate.errors import ConfigurationError
from maxgate.upstream.settings import UpstreamSettings

PREFIX = "MAXGATE_"
_NESTED = "__"
# Read before the settings are: where the YAML file is.
_CONFIG_VARIABLE = PREFIX + "CONFIG"

CommaSeparated = Annotated[list[str], NoDecode]


class Settings(BaseSettings):
    """The gateway's settings."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=_NESTED, extra="forbid", frozen=True
    )

    host: str = Field(default="127.0.0.1", min_length=1)
    """The address to listen on; 0.0.0.0 for all of the machine's."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that share the port."""
    engine: Literal["local", "docker", "none"] = "none"
    """Start MAX here as a process, as a container, or not at all."""
    engine_urls: CommaSeparated = ["http://localhost:8080"]
    """Where the engines are, comma separated."""
    cards: Annotated[list[Path], NoDecode] = []
    """Model cards or folders of them, comma separated; the ones that come with maxgate if empty."""
    data_dir: Path = Path("~/.cache/maxgate")
    """Prepared models, engine logs, and what workers share."""
    log_format: Literal["json", "text"] | None = None
    """Text on a terminal and JSON elsewhere, unless it is set."""
    max_body_bytes: int = Field(default=10_000_000, ge=1000)
    """Larger request bodies are refused with 413."""
    body_timeout: float = Field(default=30, gt=0)
    """Seconds that a request's body may take to arrive."""
    keep_alive_interval: float = Field(default=15, gt=0)
    """Seconds of silence in a stream after which a comment is sent."""
    shutdown_timeout: int = Field(default=30, ge=0)
    """Seconds that running requests get to end when the gateway is stopped."""
    metrics_dir: Path | None = None
    """Where workers keep their counts; without one `maxgate serve` makes it for several."""
    upstream: UpstreamSettings = UpstreamSettings()
    """How engines are talked to."""
    max: EngineSettings = EngineSettings()
    """How MAX is started, with `engine: local` or `docker`."""

    @field_validator("engine_urls", "cards", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [item.strip() for item in value.split(",") if item.strip()]
        return value

    @field_validator("engine_urls")
    @classmethod
    def _check_urls(cls, urls: list[str]) -> list[str]:
        for url in urls:
            if not _is_engine_url(url):
                raise ValueError(f"{url!r} is not a URL; write http://host:port")
        if not urls:
            raise ValueError("no engine is named; write http://host:port")
        return urls

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the YAML file."""
        return init_settings, env_settings, _YamlFile(settings_cls)


def _is_engine_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"http", "https"} and parts.port != 0
    except ValueError:  # of its port
        return False
    return known and bool(parts.hostname) and not any(character.isspace() for character in url)


class _YamlFile(PydanticBaseSettingsSource):
    """The file that MAXGATE_CONFIG names, if any."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Required by the base class, which asks field by field; __call__ gives all at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """The file's content."""
        name = os.environ.get(_CONFIG_VARIABLE)
        return _read_yaml(Path(name)) if name else {}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"config file {path}: {error.strerror}") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise ConfigurationError(f"config file {path}{line}: not valid YAML") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigurationError(f"config file {path}: must hold `setting: value` lines")
    return content


def load_settings() -> Settings:
    """The settings of this process.

    Raises ConfigurationError with one line that names the setting and what is wrong with it.
    """
    _check_environment(os.environ)
    try:
        return Settings()
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=True)[0]
        name = ".".join(str(step) for step in details["loc"])
        if details["type"] == "extra_forbidden":
            raise ConfigurationError(_unknown(name, _names_in_file())) from error
        message = details["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"setting {name}: {message}") from error


def variable_names(fields: Mapping[str, Any] = Settings.model_fields) -> list[str]:
    """Every environment variable that is read, nested ones as SECTION__NAME."""
    names = []
    for name, field in fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        if nested is None:
            names.append(name.upper())
        else:
            names += [f"{name.upper()}{_NESTED}{inner}" for inner in variable_names(nested)]
    return names


def _names_in_file() -> list[str]:
    return [name.lower().replace(_NESTED, ".") for name in variable_names()]


def _check_environment(environment: Mapping[str, str]) -> None:
    known = {PREFIX + name for name in variable_names()} | {_CONFIG_VARIABLE}
    for name in environment:
        if name.startswith(PREFIX) and name not in known:
            raise ConfigurationError(_unknown(name, known))


def _unknown(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown setting {name}{hint}"
