"""Reading settings from the environment, the secrets directory, `.env` and a YAML file.

The sources are those of pydantic-settings; the classes here add the check of names and errors
that name file and line.
"""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path
from typing import Any, Final

import yaml
from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    YamlConfigSettingsSource,
)
from typing_extensions import override

from maxgate.errors import ConfigurationError
from maxgate.settings_names import (
    CONFIG_VARIABLE,
    ENV_FILE_VARIABLE,
    PREFIX,
    SECRETS_DIR_VARIABLE,
    STANDARD_VARIABLES,
    InvalidSettings,
    SettingNames,
    add_standard_variables,
    select_variables,
)
from maxgate.yaml_text import BoundedLoader, InvalidStructure, parse_yaml

_DEFAULT_CONFIG: Final = "maxgate.yaml"
_DEFAULT_ENV_FILE: Final = ".env"
_DEFAULT_SECRETS_DIR: Final = "/run/secrets"
_DUPLICATE: Final = "the same setting twice"
# Text, and the merge key `<<`.
_KEY_TAGS: Final = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


@dataclass(frozen=True, slots=True)
class Source:
    """The settings in one source, nested by section; `path` is empty for the environment."""

    path: str
    values: dict[str, Any]

    def has(self, location: Sequence[int | str]) -> bool:
        """Return whether the setting at a location of pydantic's is in this source."""
        section, *rest = map(str, location)
        if section not in self.values:
            return False
        value = self.values[section]
        return not (rest and isinstance(value, dict)) or rest[0] in value


def read_sources(schema: type[BaseSettings], names: SettingNames) -> list[Source]:
    """Read all sources, the one with the highest precedence last.

    Raises InvalidSettings if one of them cannot be read. `names` collects unknown names.
    """
    variables = select_variables(os.environ)
    config = _locate(variables.get(CONFIG_VARIABLE), _DEFAULT_CONFIG, Path.is_file)
    env_file = _locate(variables.get(ENV_FILE_VARIABLE), _DEFAULT_ENV_FILE, Path.is_file)
    secrets_dir = _locate(variables.get(SECRETS_DIR_VARIABLE), _DEFAULT_SECRETS_DIR, Path.is_dir)
    makers: list[tuple[str, Callable[[], Callable[[], dict[str, Any]]]]] = []
    if config is not None:
        makers.append((str(config), partial(_YamlSource, schema, names, config)))
    if env_file is not None:
        makers.append((str(env_file), partial(_DotEnvSource, schema, names, env_file)))
    if secrets_dir is not None:
        makers.append((str(secrets_dir), partial(_SecretsSource, schema, names, secrets_dir)))
    makers.append(("", partial(_EnvironmentSource, schema, names)))
    sources, unreadable = [], []
    for path, make in makers:
        try:
            sources.append(Source(path, make()()))
        except ConfigurationError as error:
            unreadable.append(str(error))
    if unreadable:
        raise InvalidSettings([*unreadable, *names.problems])
    return sources


def merge_sources(sources: Sequence[Source]) -> dict[str, Any]:
    """Merge the sources setting by setting; lists are replaced as a whole."""
    return reduce(_merge, [source.values for source in sources])


def _locate(value: str | None, default: str, exists: Callable[[Path], bool]) -> Path | None:
    """Return the path in a variable's value, or the default if the variable is not set.

    Returns None if the value is empty, or if the default does not exist.
    """
    if value is not None:
        return Path(value).expanduser() if value else None
    path = Path(default)
    return path if exists(path) else None


def _merge(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(low)
    for name, value in high.items():
        below = merged.get(name)
        is_section = isinstance(below, dict) and isinstance(value, dict)
        merged[name] = _merge(below, value) if is_section else value  # type: ignore[arg-type]
    return merged


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: not UTF-8 text") from error


def _read_file_variables(variables: Mapping[str, str], names: SettingNames) -> dict[str, str]:
    """Return the variables with `NAME_FILE` replaced by `NAME` and the content of that file."""
    replaced = dict(variables)
    for variable, file in variables.items():
        target = names.find_file_target(variable)
        if target is None or (target in STANDARD_VARIABLES and not file):
            continue
        if target in variables:
            raise ConfigurationError(f"both {target} and {variable} are set; remove one")
        if not file:
            raise ConfigurationError(f"{variable} is empty; name a file, or remove the variable")
        try:
            replaced[target] = _read_text(Path(file).expanduser()).strip()
        except ConfigurationError as error:
            raise ConfigurationError(f"{variable}: {error}") from error
        del replaced[variable]
    return replaced


class _EnvironmentSource(EnvSettingsSource):
    def __init__(self, schema: type[BaseSettings], names: SettingNames) -> None:
        self._names = names
        super().__init__(schema)

    @override
    def _load_env_vars(self) -> Mapping[str, str | None]:
        variables = _read_file_variables(os.environ, self._names)
        return self._names.resolve_variables(add_standard_variables(variables))


class _DotEnvSource(DotEnvSettingsSource):
    def __init__(self, schema: type[BaseSettings], names: SettingNames, file: Path) -> None:
        self._names = names
        self._file = file
        super().__init__(schema, file)

    @override
    def _load_env_vars(self) -> Mapping[str, str | None]:
        text = _read_text(self._file)
        seen: set[str] = set()
        # python-dotenv logs invalid lines and goes on without them, and keeps the last duplicate.
        for binding in parse_stream(io.StringIO(text)):
            name = (binding.key or "").upper()
            is_own = name.startswith(PREFIX)
            line = f"{self._file}, line {binding.original.line}"
            if binding.error or (is_own and binding.value is None):
                raise ConfigurationError(f"{line}: write NAME=value")
            if is_own and name in seen:
                raise ConfigurationError(f"{line}: {_DUPLICATE}")
            seen.add(name)
        variables = dotenv_values(stream=io.StringIO(text))
        return self._names.resolve_variables(variables, str(self._file))


class _SecretsSource(EnvSettingsSource):
    """Reads one file per setting; files of other programs are not even opened."""

    def __init__(self, schema: type[BaseSettings], names: SettingNames, directory: Path) -> None:
        self._names = names
        self._directory = directory
        if not directory.is_dir():
            raise ConfigurationError(f"{SECRETS_DIR_VARIABLE}: {directory} is not a directory")
        super().__init__(schema)

    @override
    def _load_env_vars(self) -> Mapping[str, str | None]:
        secrets = {path.name: self._read_secret(path) for path in self._list_secrets()}
        return self._names.resolve_variables(secrets, str(self._directory))

    def _list_secrets(self) -> list[Path]:
        try:
            paths = sorted(self._directory.iterdir())
        except OSError as error:
            raise ConfigurationError(
                f"{self._directory}: {error.strerror}; "
                f"an empty {SECRETS_DIR_VARIABLE} turns secrets off"
            ) from error
        return [path for path in paths if path.name.upper().startswith(PREFIX)]

    @staticmethod
    def _read_secret(path: Path) -> str:
        if not path.is_file():
            raise ConfigurationError(
                f"{path}: not a file; a secret is a file named as its variable, "
                "such as MAXGATE_SERVER__PORT"
            )
        return _read_text(path).strip()


class _YamlSource(YamlConfigSettingsSource):
    def __init__(self, schema: type[BaseSettings], names: SettingNames, file: Path) -> None:
        self._names = names
        super().__init__(schema, file)

    @override
    def _read_files(self, files: Any, deep_merge: bool = False) -> dict[str, Any]:
        return self._read_file(files)  # the base class ignores a file that does not exist

    @override
    def _read_file(self, file_path: Any) -> dict[str, Any]:
        content = parse_yaml(_read_text(file_path), str(file_path), _SettingsLoader)
        if content is None:
            # A file without a byte was saved in part; one of comments is a template.
            if file_path.is_file() and not file_path.stat().st_size:
                raise ConfigurationError(
                    f"{file_path}: the file is empty; remove it to use the defaults"
                )
            return {}
        if not isinstance(content, dict):
            raise ConfigurationError(f"{file_path}: must hold `setting: value` lines")
        return self._names.resolve_file(content, str(file_path))


class _SettingsLoader(BoundedLoader):
    """Refuses keys that are not text, such as `1` and `on`."""

    @override
    def check_key(self, key: yaml.Node) -> None:
        if not isinstance(key, yaml.ScalarNode) or key.tag not in _KEY_TAGS:
            name = repr(key.value) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            raise InvalidStructure(
                problem=f"{name} is not the name of a setting", problem_mark=key.start_mark
            )
