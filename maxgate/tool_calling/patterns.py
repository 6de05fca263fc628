"""Patterns for the start, continuation and end of a tool call in each notation."""

from functools import lru_cache
from typing import Final, NamedTuple

import regex

SPACE: Final = regex.compile(r"\s*")
# The next argument, with its `key`, or the character that closes the arguments.
NEXT_ARGUMENT: Final = {
    "}": regex.compile(r"""\s*(?:,\s*)?(?:\}|(["'])(?P<key>(?:[^"'\\]|\\.)*)\1\s*:)"""),
    ")": regex.compile(r"\s*(?:,\s*)?(?:\)|(?P<key>[A-Za-z_]\w*)\s*=)"),
}
# Other members may follow the arguments before the end of the object.
REST_OF_OBJECT: Final = regex.compile(
    r"""\s*(?:,\s*["'][^"'\\]*["']\s*:\s*(?:["'][^"'\\]*["']|[\w.+-]+)\s*)*\}"""
)
BETWEEN_CALLS: Final = regex.compile(r"[\s,;\]]+")
FENCE: Final = "```"
CLOSER: Final = regex.compile(rf"{FENCE}|</function>|</tool_call>|<\|python_tag\|>")
# Where a call may start in text.
CALL_PLACE: Final = regex.compile(r"\n|<tool_call>")
# The language label of a code fence, certain only at the end of its line.
FENCE_LABEL: Final = regex.compile(r"[a-z_]*\n")


class CallStarts(NamedTuple):
    """Patterns for the start of a call, at the start of the response, later, and in a list.

    Tool names are baked in, so ordinary text is released immediately. The groups of a match are
    the `name` of the tool, the `open` character of its arguments, `nested` for an object inside
    the object, and one group named after the notation.
    """

    first: regex.Pattern[str]
    later: regex.Pattern[str]
    next_in_list: regex.Pattern[str]


@lru_cache(maxsize=256)
def compile_starts(names: tuple[str, ...]) -> CallStarts:
    """Compile the patterns for tools with these names."""
    longest_first = sorted(names, key=len, reverse=True)
    name = "(?P<name>" + "|".join(map(regex.escape, longest_first)) + ")"
    before = r"\s*(?:```[a-z_]*\s*)?(?:<(?:\|python_tag\||tool_call)>\s*)?"
    q = "[\"']"
    label = rf"{q}type{q}\s*:\s*{q}function{q}"
    arguments = rf"{q}(?:parameters|arguments){q}\s*:\s*"
    notations = [
        rf"(?P<object>(?:\[\s*)?\{{\s*(?:{label}\s*,\s*)?"
        rf"(?P<nested>{q}function{q}\s*:\s*\{{\s*)?{q}(?:name|function){q}\s*:\s*{q}{name}{q}\s*"
        rf"(?:,\s*{label}\s*)?(?:,\s*{arguments}(?P<open>\{{|[\"']|null)|(?P<open>\}})))",
        rf"(?P<reversed>(?:\[\s*)?(?P<open>\{{)\s*(?:{label}\s*,\s*)?{arguments}\{{)",
        rf"(?P<list>\[\s*{name}(?P<open>\())",
        rf"(?P<tag><function={name}>\s*(?P<open>\{{|</function>))",
    ]
    built_in = rf"(?P<built_in>{name}\.call(?P<open>\())"
    return CallStarts(
        first=regex.compile(f"{before}(?:{'|'.join([*notations, built_in])})"),
        later=regex.compile(f"{before}(?:{'|'.join(notations)})"),
        next_in_list=regex.compile(rf"\s*,\s*{name}\("),
    )
