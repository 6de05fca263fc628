"""Texts for the detectors of guardrails, made of the lists in tests/data/guardrails/cases.yaml."""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from maxgate.auth.api_key import generate_key, is_well_formed
from maxgate.guardrails.detector import Detector, Screen
from maxgate.guardrails.rules import build_rules
from maxgate.guardrails.text_filter import Search, TextFilter
from tests.fakes.guardrails import parse_rules

FILE = Path(__file__).parents[1] / "data" / "guardrails" / "cases.yaml"
TEMPLATES_PER_VALUE = 3
_CLASS = re.compile(r"\[((?:[^\]])+)\](?:\{(\d+)\})?")
RULES = (
    {
        "name": "pii",
        "kind": "pii",
        "action": "mask",
        "countries": ["US", "DE", "FR", "ES", "IT", "BR", "PL", "SE", "FI", "BE", "CH", "IN"],
    },
    {"name": "secrets", "kind": "secrets", "action": "mask"},
    {
        "name": "words",
        "kind": "words",
        "action": "mask",
        "words": ["falcon", "project kestrel", "straße", "C++", "東京"],
    },
    {
        "name": "regex",
        "kind": "regex",
        "action": "mask",
        "patterns": [r"(?i)\bINC\d{7}\b", r"\b10(?:\.\d{1,3}){3}\b"],
    },
)


class Case(NamedTuple):
    """A text, and what is to be found in it: the label and the passage, None for nothing."""

    text: str
    label: str | None = None
    passage: str = ""


@cache
def read_cases() -> tuple[Case, ...]:
    """Make all cases; the same ones in each process."""
    lists = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return (*_make_positive(lists), *_make_negative(lists))


def build_detectors() -> list[Detector]:
    """Build the detectors of RULES."""
    rules = build_rules(parse_rules(*RULES), is_well_formed, {})
    return [detector for rule in rules for detector in rule.detectors]


class Quality(NamedTuple):
    """Numbers of passages: found and expected, found without being expected, and missed."""

    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float:
        """Share of the findings that were expected."""
        return self.right / (self.right + self.wrong)

    @property
    def recall(self) -> float:
        """Share of the expected findings that were made."""
        return self.right / (self.right + self.missed)


def find_all(detectors: Sequence[Detector], text: str) -> list[tuple[str, str]]:
    """Return the labels and passages that the detectors find in a text."""
    found: list[tuple[str, str]] = []

    def note(label: str, passage: str) -> str:
        found.append((label, passage))
        return ""

    TextFilter([Search(detectors, note)], Screen(detectors)).feed(text, is_end=True)
    return found


def measure_quality(detectors: Sequence[Detector]) -> dict[str, Quality]:
    """Return the quality of the detectors in all cases, by label."""
    right, wrong, missed = Counter[str](), Counter[str](), Counter[str]()
    for case in read_cases():
        expected = [] if case.label is None else [(case.label, case.passage)]
        found = find_all(detectors, case.text)
        right.update([label for label, passage in found if (label, passage) in expected])
        wrong.update([label for label, passage in found if (label, passage) not in expected])
        missed.update([label for label, passage in expected if (label, passage) not in found])
    labels = dict.fromkeys(case.label for case in read_cases() if case.label is not None)
    return {label: Quality(right[label], wrong[label], missed[label]) for label in labels}


def _make_positive(lists: dict[str, Any]) -> Iterator[Case]:
    chance, templates, count = random.Random(1), lists["templates"], 0
    for label, forms in lists["positive"].items():
        values = [_make_value(label, form, chance) for form in forms]
        if label == "API_KEY":
            values += [generate_key(chance.randbytes(32)) for _ in range(3)]
        for value in values:
            for _ in range(TEMPLATES_PER_VALUE):
                text = templates[count % len(templates)].replace("{}", value, 1)
                count += 1
                yield Case(text, label, value)


def _make_negative(lists: dict[str, Any]) -> Iterator[Case]:
    templates = lists["templates"][1:]
    for count, text in enumerate(lists["negative"]):
        yield Case(text)
        for shift in (0, 3):
            template = templates[(count + shift) % len(templates)]
            yield Case(template.replace("{}", text, 1))


def _make_value(label: str, form: str, chance: random.Random) -> str:
    if label != "NATIONAL_ID":
        return _fill(str(form), chance)
    module, _, form = form.partition(": ")
    verifier = import_module(f"stdnum.{module}")
    while True:
        value = _fill(form, chance)
        if verifier.is_valid(value):
            return value


def _fill(form: str, chance: random.Random) -> str:
    def choose(found: re.Match[str]) -> str:
        letters = "".join(
            [
                "".join(map(chr, range(ord(part[0]), ord(part[2]) + 1)))
                if part[1:2] == "-"
                else part
                for part in re.findall(r"\w-\w|.", found[1])
            ]
        )
        return "".join(chance.choices(letters, k=int(found[2] or 1)))

    return _CLASS.sub(choose, form)
