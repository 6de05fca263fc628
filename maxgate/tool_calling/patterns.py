"""How the ways of writing a call begin, go on and end, as patterns."""

from functools import lru_cache
from typing import Final, NamedTuple

import regex

SPACE: Final = regex.compile(r"\s*")
# Another argument, with its `key`, or the sign that closes them.
NEXT_ARGUMENT: Final = {
    "}": regex.compile(r"""\s*(?:,\s*)?(?:\}|(["'])(?P<key>(?:[^"'\\]|\\.)*)\1\s*:)"""),
    ")": regex.compile(r"\s*(?:,\s*)?(?:\)|(?P<key>[A-Za-z_]\w*)\s*=)"),
}
# What may stand between the arguments of a call and the end of its object.
REST_OF_OBJECT: Final = regex.compile(
    r"""\s*(?:,\s*["'][^"'\\]*["']\s*:\s*(?:["'][^"'\\]*["']|[\w.+-]+)\s*)*\}"""
)
BETWEEN_CALLS: Final = regex.compile(r"[\s,;\]]+")
FENCE: Final = "```"
CLOSER: Final = regex.compile(rf"{FENCE}|</function>|<\|python_tag\|>")
# What a fence says of its content, which is only sure at the end of the line.
FENCE_LABEL: Final = regex.compile(r"[a-z_]*\n")


class Heads(NamedTuple):
    """How calls begin; the tools' names are part of it, so that other text is let go at once.

    The groups of a match: `name` of the tool, `open` that begins its arguments, `nested` for an
    object inside the object, and one named after the way in which the call is written.
    """

    at_the_beginning: regex.Pattern[str]
    anywhere: regex.Pattern[str]
    next_in_list: regex.Pattern[str]


@lru_cache(maxsize=256)
def heads(names: tuple[str, ...]) -> Heads:
    """The patterns for these tools."""
    longest_first = sorted(names, key=len, reverse=True)
    name = "(?P<name>" + "|".join(map(regex.escape, longest_first)) + ")"
    before = r"\s*(?:```[a-z_]*\s*)?(?:<\|python_tag\|>\s*)?"
    q = "[\"']"
    label = rf"{q}type{q}\s*:\s*{q}function{q}"
    arguments = rf"{q}(?:parameters|arguments){q}\s*:\s*"
    anywhere = [
        rf"(?P<object>(?:\[\s*)?\{{\s*(?:{label}\s*,\s*)?"
        rf"(?P<nested>{q}function{q}\s*:\s*\{{\s*)?{q}(?:name|function){q}\s*:\s*{q}{name}{q}\s*"
        rf"(?:,\s*{label}\s*)?(?:,\s*{arguments}(?P<open>\{{|[\"']|null)|(?P<open>\}})))",
        rf"(?P<turned>(?:\[\s*)?(?P<open>\{{)\s*(?:{label}\s*,\s*)?{arguments}\{{)",
        rf"(?P<list>\[\s*{name}(?P<open>\())",
        rf"(?P<tag><function={name}>\s*(?P<open>\{{|</function>))",
    ]
    built_in = rf"(?P<built_in>{name}\.call(?P<open>\())"
    return Heads(
        at_the_beginning=regex.compile(f"{before}(?:{'|'.join([*anywhere, built_in])})"),
        anywhere=regex.compile(f"{before}(?:{'|'.join(anywhere)})"),
        next_in_list=regex.compile(rf"\s*,\s*{name}\("),
    )
