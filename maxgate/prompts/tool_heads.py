"""How the ways of writing a call begin, go on and end, as patterns."""

from functools import lru_cache
from typing import Final, NamedTuple

import regex

from maxgate.prompts.pending_text import Patterns

SPACE: Final = regex.compile(r"\s*")
KEY: Final = {
    "}": regex.compile(r"""\s*(?:,\s*)?(["'])(?P<key>(?:[^"'\\]|\\.)*)\1\s*:"""),
    ")": regex.compile(r"\s*(?:,\s*)?(?P<key>[A-Za-z_]\w*)\s*="),
}
END: Final = {
    "}": regex.compile(r"\s*(?:,\s*)?\}"),
    ")": regex.compile(r"\s*(?:,\s*)?\)"),
}
# What may stand between the arguments of a call and the end of its object.
REST_OF_OBJECT: Final = regex.compile(
    r"""\s*(?:,\s*["'][^"'\\]*["']\s*:\s*(?:["'][^"'\\]*["']|[\w.+-]+)\s*)*\}"""
)
BETWEEN_CALLS: Final = regex.compile(r"[\s,;\]]+")
CLOSER: Final = regex.compile(r"```(?:[a-z_]*\n)?|</function>|<\|python_tag\|>")


class Heads(NamedTuple):
    """How calls begin; the tools' names are part of it, so that other text is let go at once."""

    at_the_beginning: Patterns
    anywhere: Patterns
    next_in_list: Patterns


@lru_cache(maxsize=256)
def heads(names: tuple[str, ...]) -> Heads:
    """The patterns for these tools.

    Their groups: `name` of the tool, `open` that begins its arguments, `nested` for an object
    inside the object.
    """
    longest_first = sorted(names, key=len, reverse=True)
    name = "(?P<name>" + "|".join(map(regex.escape, longest_first)) + ")"
    before = r"\s*(?:```[a-z_]*\s*)?(?:<\|python_tag\|>\s*)?"
    q = "[\"']"
    label = rf"{q}type{q}\s*:\s*{q}function{q}"
    arguments = rf"{q}(?:parameters|arguments){q}\s*:\s*"
    patterns = {
        "object": rf"{before}(?:\[\s*)?\{{\s*(?:{label}\s*,\s*)?"
        rf"(?P<nested>{q}function{q}\s*:\s*\{{\s*)?{q}(?:name|function){q}\s*:\s*{q}{name}{q}\s*"
        rf"(?:,\s*{label}\s*)?(?:,\s*{arguments}(?P<open>\{{|[\"']|null)|(?P<open>\}}))",
        "turned": rf"{before}(?:\[\s*)?(?P<open>\{{)\s*(?:{label}\s*,\s*)?{arguments}\{{",
        "list": rf"{before}\[\s*{name}(?P<open>\()",
        "tag": rf"{before}<function={name}>\s*(?P<open>\{{|</function>)",
    }
    anywhere = [(kind, regex.compile(pattern)) for kind, pattern in patterns.items()]
    built_in = ("built-in", regex.compile(rf"{before}{name}\.call(?P<open>\()"))
    return Heads(
        at_the_beginning=[*anywhere, built_in],
        anywhere=anywhere,
        next_in_list=[("list", regex.compile(rf"\s*,\s*{name}\("))],
    )
