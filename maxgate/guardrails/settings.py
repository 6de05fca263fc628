"""Rules for the content of requests and responses.

The docstring of each field is its text in docs/guardrails.md.
"""

import zlib
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from maxgate.settings_section import Section

Action = Literal["block", "mask", "log"]
Direction = Literal["input", "output"]
PiiType = Literal["email", "phone", "card", "iban", "national_id"]

MAX_RULES: Final = 60  # a table of metrics has 64 rows
MAX_WORDS: Final = 1000
MAX_PATTERNS: Final = 100

_Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
_Pattern = Annotated[str, Field(min_length=1, max_length=500)]
_Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
_Category = Annotated[str, Field(pattern=r"^S([1-9]|1[0-4])$")]


class _Rule(Section):
    """Fields of all kinds."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    """Name in error messages, metrics and the usage ledger."""
    action: Action
    """`block`, `mask` with placeholders, or only `log` the decision."""
    applies_to: Literal["input", "output", "both"] = "both"
    """`input` of the model, its `output`, or `both`."""
    projects: list[str] = Field(default=[])
    """Ids of the projects whose requests it applies to; default: all."""
    models: list[str] = Field(default=[])
    """Names of the models that it applies to; default: all."""

    def __str__(self) -> str:
        # As a reload logs it: words stay out, and a changed rule differs.
        checksum = zlib.crc32(self.model_dump_json().encode())
        return f"{self.name} ({self.action}, {checksum:08x})"

    def covers(self, direction: Direction) -> bool:
        """Whether the rule applies to this direction."""
        return self.applies_to in {direction, "both"}


class PiiRule(_Rule):
    """Personal data."""

    kind: Literal["pii"]
    types: list[PiiType] = Field(
        default=["email", "phone", "card", "iban", "national_id"], min_length=1
    )
    """`email`, `phone`, `card`, `iban` and `national_id`; default: all."""
    countries: list[_Country] = Field(default=["US"], max_length=32)
    """Countries of phone numbers without a country code, and of national ids."""


class SecretsRule(_Rule):
    """API keys of well-known providers and of maxgate, private keys, and JSON Web Tokens."""

    kind: Literal["secrets"]


class WordsRule(_Rule):
    """Whole words and phrases."""

    kind: Literal["words"]
    words: list[_Word] = Field(min_length=1, max_length=MAX_WORDS)
    """Words or phrases."""
    case_sensitive: bool = False
    """Whether upper and lower case differ."""


class RegexRule(_Rule):
    """Regular expressions in RE2's syntax, which match in linear time."""

    kind: Literal["regex"]
    patterns: list[_Pattern] = Field(min_length=1, max_length=MAX_PATTERNS)
    """Regular expressions; a match may start anywhere and has at most 1,000 characters."""


class _CheckRule(_Rule):
    """Fields of the kinds that judge a text as a whole, so that they cannot mask."""

    @model_validator(mode="after")
    def _check_action(self) -> Self:
        if self.action == "mask":
            raise ValueError("action: mask needs a kind that finds passages; set block or log")
        return self


class LengthRule(_CheckRule):
    """The length of each text: a message, a prompt, or a response."""

    kind: Literal["length"]
    max_characters: int = Field(ge=1)
    """Maximum number of characters."""


class _RemoteRule(_CheckRule):
    on_failure: Literal["open", "closed"] = "closed"
    """If no verdict can be had, `closed` refuses the request with 503; `open` serves it."""


class WebhookRule(_RemoteRule):
    """A service of yours."""

    kind: Literal["webhook"]
    url: str
    """URL that gets the texts, by POST."""
    token: str | None = Field(default=None, repr=False)
    """Sent as `Authorization: Bearer`."""
    timeout: float = Field(default=2.0, gt=0, le=60)
    """Timeout of a call, in seconds."""

    @field_validator("url")
    @classmethod
    def _check_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            is_valid = parts.scheme in {"http", "https"} and parts.port != 0
        except ValueError:  # an invalid port
            is_valid = False
        if not is_valid or not parts.hostname or any(map(str.isspace, url)):
            raise ValueError("not a URL; write https://host/path")
        if parts.username is not None:
            raise ValueError("a URL with credentials; set token instead")
        return url


class ModelRule(_RemoteRule):
    """A model that judges texts, in the format of Llama Guard."""

    kind: Literal["model"]
    model: str = Field(min_length=1)
    """Name of a model whose card has `task: moderation`."""
    categories: list[_Category] = Field(default=[])
    """Categories that count, such as `S1`; default: all."""
    timeout: float = Field(default=10.0, gt=0, le=300)
    """Timeout of a verdict, in seconds."""


def _find_kind(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)


GuardrailRule = Annotated[
    Annotated[PiiRule, Tag("pii")]
    | Annotated[SecretsRule, Tag("secrets")]
    | Annotated[WordsRule, Tag("words")]
    | Annotated[RegexRule, Tag("regex")]
    | Annotated[LengthRule, Tag("length")]
    | Annotated[WebhookRule, Tag("webhook")]
    | Annotated[ModelRule, Tag("model")],
    Discriminator(
        _find_kind,
        custom_error_type="rule_kind",
        custom_error_message="`kind` must be pii, secrets, words, regex, length, webhook or model",
    ),
]


def check_rules(rules: list[GuardrailRule]) -> list[GuardrailRule]:
    """Raise ValueError if there are too many rules, or two of the same name."""
    if len(rules) > MAX_RULES:
        raise ValueError(f"at most {MAX_RULES} rules")
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two rules have the name {name!r}; names are unique")
    return rules
