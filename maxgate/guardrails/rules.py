"""The rules of the settings with their detectors, and those that apply to a request."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from maxgate.errors import ConfigurationError
from maxgate.generation.context import RequestContext
from maxgate.guardrails.detector import Detector, Screen, build_word_detector
from maxgate.guardrails.pii import build_pii_detectors
from maxgate.guardrails.placeholders import make_label
from maxgate.guardrails.secrets import build_secret_detectors
from maxgate.guardrails.settings import (
    Direction,
    GuardrailRule,
    LengthRule,
    ModelRule,
    PiiRule,
    RegexRule,
    SecretsRule,
    WebhookRule,
    WordsRule,
)

CountDecision = Callable[[str, Direction, str, int], None]
"""Counts decisions in metrics: the rule, direction, decision and number."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and what it needs to find passages; rules that judge whole texts have no detectors."""

    settings: GuardrailRule
    detectors: tuple[Detector, ...] = ()

    @property
    def name(self) -> str:
        """Name of the rule."""
        return self.settings.name


def build_rules(
    settings: Sequence[GuardrailRule],
    is_own_key: Callable[[str], bool],
    model_names: Mapping[str, str],
) -> list[Rule]:
    """Build the rules; `is_own_key` verifies maxgate's keys.

    `model_names` maps the names and aliases of models to their names.

    Raises ConfigurationError for expressions that are invalid.
    """
    rules = []
    for index, rule in enumerate(settings):
        names = [model_names.get(name, name) for name in rule.models]
        try:
            detectors = tuple(_build_detectors(rule, is_own_key))
            Screen(detectors)
        except ValueError as error:
            raise ConfigurationError(
                f"setting guardrails[{index}]: rule {rule.name!r}: {error}"
            ) from error
        rules.append(Rule(rule.model_copy(update={"models": names}), detectors))
    try:
        Screen([detector for rule in rules for detector in rule.detectors])
    except ValueError as error:
        raise ConfigurationError(
            f"setting guardrails: all words and expressions together: {error}; use fewer"
        ) from error
    return rules


def _build_detectors(rule: GuardrailRule, is_own_key: Callable[[str], bool]) -> Iterable[Detector]:
    match rule:
        case PiiRule():
            return build_pii_detectors(rule)
        case SecretsRule():
            return build_secret_detectors(is_own_key)
        case WordsRule():
            label = make_label(rule.name)
            return [build_word_detector(rule.words, label, case_sensitive=rule.case_sensitive)]
        case RegexRule():
            return [Detector(make_label(rule.name), pattern) for pattern in rule.patterns]
        case LengthRule() | WebhookRule() | ModelRule():
            return []


class DirectionRules:
    """The rules for one direction: those that act on passages, that only observe them, and others.

    `lengths` bound texts, and `checks` call a service or a model.
    """

    def __init__(self, rules: Sequence[Rule], direction: Direction, *extra: Detector) -> None:
        """`extra` are detectors beside those of the rules that act."""
        rules = [rule for rule in rules if rule.settings.covers(direction)]
        finding = [rule for rule in rules if rule.detectors]
        self.direction = direction
        self.acting = [rule for rule in finding if rule.settings.action != "log"]
        self.observing = [rule for rule in finding if rule.settings.action == "log"]
        self.lengths = [
            (rule, rule.settings) for rule in rules if isinstance(rule.settings, LengthRule)
        ]
        self.checks = [
            (rule, rule.settings)
            for rule in rules
            if isinstance(rule.settings, WebhookRule | ModelRule)
        ]
        acting = [detector for rule in self.acting for detector in rule.detectors]
        self.acting_screen = Screen([*acting, *extra])
        self.observing_screen = Screen(
            [detector for rule in self.observing for detector in rule.detectors]
        )

    def __bool__(self) -> bool:
        return bool(self.acting or self.observing or self.lengths or self.checks)

    @property
    def may_refuse(self) -> bool:
        """Whether a text may be refused or changed."""
        others = [rule for rule, _ in (*self.lengths, *self.checks)]
        return bool(self.acting) or any(rule.settings.action != "log" for rule in others)


class Named(Protocol):
    """A model with a name."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """The rules that apply to a request."""

    input: DirectionRules
    output: DirectionRules


class RuleBook:
    """All rules; `select` those of a request."""

    def __init__(self, rules: Sequence[Rule], placeholders: Detector) -> None:
        self._rules = rules
        self._placeholders = placeholders
        self._selections: dict[tuple[bool, ...], Selection] = {}
        # Compiling takes about 0.1 s, so that the usual selection is built at the start.
        self._find(tuple([not (rule.settings.projects or rule.settings.models) for rule in rules]))

    def select(self, context: RequestContext, model: Named) -> Selection | None:
        """Return the rules that apply to the caller's project and the model; None if none does."""
        project = context.principal.project_id
        applies = tuple(
            [
                (not rule.settings.projects or project in rule.settings.projects)
                and (not rule.settings.models or model.name in rule.settings.models)
                for rule in self._rules
            ]
        )
        return self._find(applies)

    def _find(self, applies: tuple[bool, ...]) -> Selection | None:
        if True not in applies:
            return None
        selection = self._selections.get(applies)
        if selection is None:
            chosen = [rule for rule, one in zip(self._rules, applies, strict=True) if one]
            selection = self._selections[applies] = Selection(
                DirectionRules(chosen, "input"),
                DirectionRules(chosen, "output", self._placeholders),
            )
        return selection
