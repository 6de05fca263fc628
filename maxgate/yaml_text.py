"""Reading YAML that people write: settings, keys, model cards, alerts and scenarios.

PyYAML's safe loaders keep the last of two equal fields, fail with a traceback at deep nesting and
odd tags, and let a few lines of aliases stand for gigabytes. Here, all of that is an error with a
line.
"""

from collections.abc import Hashable
from typing import Any, Final

import yaml
from typing_extensions import override

from maxgate.errors import ConfigurationError

MAX_DEPTH: Final = 100
MAX_VALUES: Final = 1_000_000
"""With aliases replaced by what they stand for."""
# Written in C, many times faster; not every build of PyYAML has it.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Errors of YAML, and those of constructors for a value that its tag does not allow.
_INVALID: Final = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError)


class InvalidStructure(yaml.MarkedYAMLError):
    """Well-formed YAML that breaks a rule; `problem` is the message."""


class BoundedLoader(_SafeLoader):  # type: ignore[misc]  # chosen at run time
    """Refuses fields that occur twice, fields without a name, and nesting beyond any use."""

    _depth = 0

    # The loaders call these two around each value, the one in C as well.
    @override
    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise InvalidStructure(problem="nested too deeply")

    @override
    def ascend_resolver(self) -> None:
        self._depth -= 1

    @override
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            self.check_key(key)
            if key.value in seen:
                raise InvalidStructure(problem=f"{key.value!r} twice", problem_mark=key.start_mark)
            seen.add(key.value)
        fields: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return fields

    def check_key(self, key: yaml.Node) -> None:
        """Raise InvalidStructure for a key that cannot be the name of a field."""
        if not isinstance(key, yaml.ScalarNode):
            raise InvalidStructure(problem="a field without a name", problem_mark=key.start_mark)


def parse_yaml(text: str, source: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Parse a document; raises ConfigurationError with the source, the line and the rule.

    No value is part of the message, because it may be a secret.
    """
    try:
        content = yaml.load(text, loader)  # noqa: S506  # a SafeLoader
        if "*" in text:
            _check_aliases(content)
    except _INVALID as error:
        mark = getattr(error, "problem_mark", None)
        # At the end of the text, the loader in C is one line further.
        line = f", line {min(mark.line, text.count(chr(10))) + 1}" if mark else ""
        rule = error.problem if isinstance(error, InvalidStructure) else "not valid YAML"
        raise ConfigurationError(f"{source}{line}: {rule}") from None
    return content


def _check_aliases(content: Any) -> None:
    values, height = _measure(content, {})
    if height > MAX_DEPTH:
        raise InvalidStructure(problem="nested too deeply")
    if values > MAX_VALUES:
        raise InvalidStructure(problem=f"aliases stand for more than {MAX_VALUES:,} values")


def _measure(value: Any, known: dict[int, tuple[int, float]]) -> tuple[int, float]:
    """Return the number of values in a value, and its height, which is infinite in a cycle."""
    if not isinstance(value, dict | list):
        return 1, 1
    if id(value) not in known:
        known[id(value)] = 0, float("inf")
        children = value.values() if isinstance(value, dict) else value
        sizes = [_measure(child, known) for child in children]
        values = 1 + sum(number for number, _ in sizes)
        known[id(value)] = values, 1 + max((height for _, height in sizes), default=0)
    return known[id(value)]
