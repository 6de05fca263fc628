"""Derive from a regular expression the expression of all beginnings of its matches.

It tells whether the end of an incomplete text may still become a match. Expressions are in RE2's
syntax: https://github.com/google/re2/wiki/Syntax.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_QUANTIFIER: Final = re.compile(r"(?:([*+?])|\{(\d+)(?:(,)(\d*))?\})\??")
_GROUP: Final = re.compile(r"\((?:\?(?:P?<\w+>|[a-zA-Z-]*:))?")
_FLAGS: Final = re.compile(r"\(\?[a-zA-Z-]+\)")
_ESCAPE: Final = re.compile(
    r"\\(?:[pP]\{\^?\w+\}|[pP]\w|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|[0-7]{1,3}|.)", re.DOTALL
)
_CLASS: Final = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{\^?\w+\}|\\.|[^\]\\])*\]", re.DOTALL)
_ZERO_WIDTH: Final = frozenset({"^", "$", r"\b", r"\B", r"\A", r"\z"})


def derive_tail(pattern: str) -> str:
    """Return an expression for the ends of texts from which a match may start.

    Raises ValueError for an invalid expression, and for quotations between backslashes Q and E.
    """
    return rf"(?:{_parse(pattern).prefix})\z"


def remove_groups(pattern: str) -> str:
    """Return an expression that matches the same without capturing; raises as derive_tail does."""
    return _parse(pattern).source


def _parse(pattern: str) -> "_Node":
    parser = _Parser(pattern)
    node = parser.parse_alternatives()
    if parser.at != len(pattern):
        raise ValueError(f"unexpected ')' at {parser.at}")
    return node


@dataclass(frozen=True, slots=True)
class _Node:
    """`source` matches the node, and `prefix` any beginning of what it matches, "" included."""

    source: str
    prefix: str
    is_atom: bool = False


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def parse_alternatives(self) -> _Node:
        branches = [self._parse_sequence()]
        while self._peek() == "|":
            self.at += 1
            branches.append(self._parse_sequence())
        if len(branches) == 1:
            return branches[0]
        return _Node(
            "|".join([branch.source for branch in branches]),
            "|".join([branch.prefix for branch in branches]),
        )

    def _parse_sequence(self) -> _Node:
        nodes: list[_Node] = []
        while self._peek() not in {"", "|", ")"}:
            nodes.append(self._parse_item())
        return _join(nodes)

    def _parse_item(self) -> _Node:
        node = self._parse_atom()
        found = _QUANTIFIER.match(self._pattern, self.at)
        while found is not None:
            self.at = found.end()
            node = _repeat(node, found)
            found = _QUANTIFIER.match(self._pattern, self.at)
        return node

    def _parse_atom(self) -> _Node:
        if found := _FLAGS.match(self._pattern, self.at):
            self.at = found.end()
            return _Node(found[0], found[0], is_atom=True)
        if self._peek() == "(":
            return self._parse_group()
        character = self._peek()
        if character in {"*", "+", "?"}:
            raise ValueError(f"nothing to repeat at {self.at}")
        text = character
        if character in {"[", "\\"}:
            found = (_CLASS if character == "[" else _ESCAPE).match(self._pattern, self.at)
            if found is None or found[0] == r"\Q":
                raise ValueError(f"unsupported {self._pattern[self.at : self.at + 10]!r}")
            text = found[0]
        self.at += len(text)
        return _Node(text, "" if text in _ZERO_WIDTH else f"(?:{text})?", is_atom=True)

    def _parse_group(self) -> _Node:
        found = _GROUP.match(self._pattern, self.at)
        start = self._pattern[self.at] if found is None else found[0]
        self.at += len(start)
        inner = self.parse_alternatives()
        if self._peek() != ")":
            raise ValueError("missing )")
        self.at += 1
        flags = start if start.endswith(":") else "(?:"
        return _Node(f"{flags}{inner.source})", f"{flags}{inner.prefix})")

    def _peek(self) -> str:
        return self._pattern[self.at : self.at + 1]


def _join(nodes: Sequence[_Node]) -> _Node:
    prefix = ""
    for node in reversed(nodes):
        if node.is_atom:
            prefix = f"(?:{node.source}{prefix})?"
        else:
            prefix = f"(?:{node.source}{prefix}|{node.prefix})"
    source = "".join([node.source for node in nodes])
    if len(nodes) == 1:
        return nodes[0]
    return _Node(source, prefix)


def _repeat(node: _Node, quantifier: re.Match[str]) -> _Node:
    sign, low, comma, high = quantifier.groups()
    source = f"(?:{node.source}){quantifier[0]}"
    if sign in {"*", "+"} or (comma and not high):
        return _Node(source, f"(?:{node.source})*{node.prefix}")
    most = 1 if sign == "?" else int(high or low)
    if most == 0:
        return _Node(source, "")
    if most == 1:
        return _Node(source, node.prefix)
    return _Node(source, f"(?:{node.source}){{0,{most - 1}}}{node.prefix}")
