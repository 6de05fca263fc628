"""Names of settings in variables and files, and the old names that are still accepted.

In a file, `server.port` is `port` in the section `server`; as a variable, it is
MAXGATE_SERVER__PORT. Old names are accepted for one version.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from maxgate.errors import ConfigurationError

PREFIX: Final = "MAXGATE_"
NESTED: Final = "__"
# Variables that locate the other sources, so they are read from the environment only.
CONFIG_VARIABLE: Final = PREFIX + "CONFIG"
SECRETS_DIR_VARIABLE: Final = PREFIX + "SECRETS_DIR"
ENV_FILE_VARIABLE: Final = PREFIX + "ENV_FILE"
LOCATIONS: Final = (CONFIG_VARIABLE, SECRETS_DIR_VARIABLE, ENV_FILE_VARIABLE)

STANDARD_VARIABLES: Final = {"DATABASE_URL": "database.url", "REDIS_URL": "redis.url"}
"""Names that other programs use, too: from the environment only, below the gateway's own name."""

FILE_SUFFIX: Final = "_FILE"
"""Of variables that name a file with the value, from the environment only."""

_OLD_NAMES_END: Final = "0.3"
OLD_NAMES: Final = {
    "host": "server.host",
    "port": "server.port",
    "workers": "server.workers",
    "max_body_bytes": "server.max_body_bytes",
    "body_timeout": "server.request_read_timeout",
    "keep_alive_interval": "server.keep_alive_interval",
    "shutdown_timeout": "server.shutdown_timeout",
    "engine": "engine.mode",
    "engine_urls": "engines",
    "max.card": "engine.card",
    "max.metrics_port": "engine.metrics_port",
    "max.start_timeout": "engine.start_timeout",
    "max.stop_timeout": "engine.stop_timeout",
    "max.telemetry": "engine.telemetry",
    "data_dir": "cache_dir",
    "log_format": "telemetry.log_format",
    "metrics_dir": "telemetry.metrics_dir",
    "upstream.ability_timeout": "upstream.capability_probe_timeout",
    "upstream.probe_interval_down": "upstream.unhealthy_probe_interval",
    "upstream.embedding_batch": "upstream.embedding_batch_size",
}
_OLD_SECTIONS: Final = {"max": "engine"}

# Kubernetes sets these in pods, for a Service whose name is `maxgate` or begins with `maxgate-`.
_SERVICE_LINK: Final = re.compile(
    PREFIX + r"([A-Z0-9]+_)*"
    r"(SERVICE_(HOST|PORT(_\w+)?)=|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?=|PORT=\w+://)"
)

_Value = TypeVar("_Value", str, str | None)


def to_variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return PREFIX + name.replace(".", NESTED).upper()


def to_name(variable: str) -> str:
    """Return the setting of an environment variable."""
    return variable[len(PREFIX) :].lower().replace(NESTED, ".")


def select_variables(variables: Mapping[str, _Value], prefix: str = "") -> dict[str, _Value]:
    """Return the gateway's own variables with upper-case names.

    Raises ConfigurationError, which starts with `prefix`, if a name occurs in two spellings.
    """
    spellings: dict[str, str] = {}
    for name in variables:
        if not name.upper().startswith(PREFIX):
            continue
        if other := spellings.get(name.upper()):
            raise ConfigurationError(
                f"{prefix}both {other} and {name} are set; they are the same setting: remove one"
            )
        spellings[name.upper()] = name
    return {upper: variables[name] for upper, name in spellings.items()}


def add_standard_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with those that have a standard name under the gateway's own name."""
    upper = {name.upper() for name in variables}
    added = {
        to_variable(setting): variables[name]
        for name, setting in STANDARD_VARIABLES.items()
        if name in variables and to_variable(setting) not in upper
    }
    return {**variables, **added}


class InvalidSettings(ConfigurationError):
    """Settings that break rules; `problems` has a line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = len(problems) - 1
        super().__init__(
            problems[0] + (f" (and {more} more: `maxgate doctor` lists all)" if more else "")
        )
        self.problems = problems


class SettingNames:
    """Checks the names in each source, and replaces old ones.

    `warn` is called once for each old name in use. Unknown variables are left out and added to
    `problems`; other errors are ConfigurationErrors. `source` names the file in messages and is
    empty for the environment.
    """

    def __init__(self, known: Sequence[str], warn: Callable[[str], None]) -> None:
        self.problems: list[str] = []
        self._known = known
        # Each section's first setting, as an example.
        self._sections = {n.partition(".")[0]: n for n in reversed(known) if "." in n}
        self._warn = warn

    def find_file_target(self, variable: str) -> str | None:
        """Return the variable whose value is in a file that this variable names, None otherwise.

        Settings with such a name, as `auth.pepper_file`, keep their own meaning.
        """
        name = variable.upper()
        target = name.removesuffix(FILE_SUFFIX)
        if target == name or (name.startswith(PREFIX) and to_name(name) in self._known):
            return None
        is_own = target.startswith(PREFIX) and to_name(target) in self._known
        return target if is_own or target in STANDARD_VARIABLES else None

    def resolve_variables(
        self, variables: Mapping[str, str | None], source: str = ""
    ) -> dict[str, str | None]:
        """Return the settings among variables in lower case, by their new names."""
        prefix = f"{source}: " if source else ""
        own = select_variables(variables, prefix)
        if not source:  # files do not locate other sources
            own = {
                name: value
                for name, value in own.items()
                if name not in LOCATIONS and not _SERVICE_LINK.match(f"{name}={value}")
            }
        for old, new in OLD_NAMES.items():
            if (variable := to_variable(old)) in own:
                if old in self._sections and str(own[variable]).lstrip().startswith("{"):
                    raise ConfigurationError(prefix + self._describe_unknown_variable(variable))
                replacement = to_variable(new)
                self._report_old(variable, replacement, prefix, is_both=replacement in own)
                own[replacement] = own.pop(variable)
        known = set(map(to_variable, self._known))
        self.problems += [
            prefix + self._describe_unknown_variable(variable, in_file=bool(source))
            for variable in own
            if variable not in known
        ]
        return {name.lower(): value for name, value in own.items() if name in known}

    def resolve_file(self, content: Mapping[str, Any], source: str) -> dict[str, Any]:
        """Return a file's nested settings by their new names."""
        resolved = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in content.items()
            # A section whose settings are all commented out is None.
            if not (value is None and name in self._sections)
        }
        for old, new in OLD_NAMES.items():
            section, name = _find(resolved, old)
            if section is None or isinstance(section[name], dict):
                continue
            value = section.pop(name)
            if not section and section is not resolved:
                del resolved[old.partition(".")[0]]
            self._report_old(old, new, f"{source}: ", is_both=_find(resolved, new)[0] is not None)
            target, _, key = new.rpartition(".")
            inner = resolved.setdefault(target, {}) if target else resolved
            if not isinstance(inner, dict):
                raise ConfigurationError(f"{source}: {self.describe_section(target)}")
            inner[key] = value
        self._resolve_old_sections(resolved, f"{source}: ")
        return resolved

    def _resolve_old_sections(self, content: dict[str, Any], prefix: str) -> None:
        for old, new in _OLD_SECTIONS.items():
            if old not in content:
                continue
            settings = content[old]
            if isinstance(settings, dict) and settings:  # those with new names have been moved
                unknown = f"{old}.{next(iter(settings))}"
                raise ConfigurationError(prefix + self.describe_unknown(unknown))
            if settings in (None, {}):
                del content[old]
                self._report_old(old, new, prefix, is_both=False)

    def _report_old(self, old: str, new: str, prefix: str, *, is_both: bool) -> None:
        if is_both:
            raise ConfigurationError(
                f"{prefix}both {old} and {new} are set; {old} is the old name of {new}: remove it"
            )
        self._warn(
            f"{prefix}setting {old} is now {new}; the old name goes away in {_OLD_NAMES_END}"
        )

    def describe_unknown(self, name: str) -> str:
        """Return the error message for an unknown setting in a YAML file."""
        message = f"unknown setting {name}"
        variable = name.upper() if name.upper().startswith(PREFIX) else to_variable(name)
        if variable in LOCATIONS:
            return f"{message}; set {variable} in the environment"
        meant = OLD_NAMES.get(to_name(variable), to_name(variable))
        if meant in self._known:  # a dotted name, or that of a variable
            return f"{message}; write it as {_format_nested(meant)}"
        if "[" in name:  # an item of a list has settings of its own
            return message
        close = _OLD_SECTIONS.get(name) or self._find_close(name)
        return message + (f"; did you mean {close}?" if close else "")

    def describe_section(self, name: str) -> str:
        """Return the error message for a section with a value in place of settings."""
        example = _format_nested(self._sections[name])
        return f"setting {name} must hold settings, such as {example}"

    def _describe_unknown_variable(self, variable: str, *, in_file: bool = False) -> str:
        if variable in LOCATIONS:
            return f"{variable} is read from the environment only"
        name = to_name(variable)
        if example := self._sections.get(_OLD_SECTIONS.get(name, name)):
            return (
                f"{variable} is a section; set each of its settings by a variable, such as "
                f"{to_variable(example)}"
            )
        close = self._find_close(name)
        if close is None and not in_file:
            close = next(iter(difflib.get_close_matches(name, map(to_name, LOCATIONS), n=1)), None)
        hint = f"; did you mean {to_variable(close)}?" if close else ""
        return f"unknown setting {variable}{hint}"

    def _find_close(self, name: str) -> str | None:
        if close := difflib.get_close_matches(name, self._known, n=1):
            return close[0]
        # `prot` is not close to `server.port`, but to its last part.
        by_last_part = {known.rpartition(".")[2]: known for known in reversed(self._known)}
        close = difflib.get_close_matches(name.rpartition(".")[2], by_last_part, n=1)
        return by_last_part[close[0]] if close else None


def _format_nested(name: str) -> str:
    section, _, key = name.rpartition(".")
    return f"{section}: {{{key}: ...}}" if section else f"{key}: ..."


def _find(content: dict[str, Any], name: str) -> tuple[dict[str, Any] | None, str]:
    """Return the section that holds a setting, or None, and the setting's name in it."""
    section_name, _, key = name.rpartition(".")
    section = content.get(section_name) if section_name else content
    return (section if isinstance(section, dict) and key in section else None), key
