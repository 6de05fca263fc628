"""Detectors of personal data: addresses, numbers of phones, cards and accounts, national ids."""

import re
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from typing import Final, NamedTuple, Protocol

import phonenumbers
from stdnum import iban, luhn

from maxgate.guardrails.detector import (
    CONTEXT,
    WORD_END,
    Detector,
    is_word_start,
)
from maxgate.guardrails.settings import PiiRule

# Ranges of letters: classes such as \pL are too large to be repeated.
_LETTERS: Final = r"A-Za-z\x{c0}-\x{24f}\x{370}-\x{1fff}\x{3040}-\x{9fff}\x{ac00}-\x{d7a3}"
_NAME: Final = rf"[0-9{_LETTERS}]"
_EMAIL: Final = (
    rf"({_NAME}[0-9{_LETTERS}._%+'-]{{0,63}}@(?:{_NAME}[0-9{_LETTERS}-]{{0,62}}\.)+"
    rf"[{_LETTERS}]{{2,24}}){WORD_END}"
)
_FILE_SUFFIXES: Final = frozenset({"css", "gif", "ico", "jpeg", "jpg", "js", "png", "svg", "webp"})
_PHONE: Final = r"([+(]?\d(?:[ ().\-/]{0,2}\d){6,16})" + WORD_END
_MAX_GROUPS: Final = 6
_MIN_GROUP: Final = 2
_PHONE_WORDS: Final = re.compile(r"(?i)\b(?:call|cell|fax|mobile|phone|sms|tel|text|whatsapp)\b")
_CARD: Final = r"(\d(?:[ -]?\d){12,18})" + WORD_END
# The first digits of card numbers by brand, and their lengths.
_CARD_BRANDS: Final = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})"
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}"
    r"|(?:6011|65\d\d|64[4-9]\d|35(?:2[89]|[3-8]\d))\d{12}"
    r"|3(?:0[0-5]|[68]\d)\d{11}"
    r"|62\d{14,17}"
)
_IBAN: Final = r"(?i)([A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,30})" + WORD_END


class NationalId(NamedTuple):
    """Form of an id; `module` of stdnum verifies it.

    Ids with a weak checksum need one of the `words` shortly before them.
    """

    module: str
    pattern: str
    words: str = ""


NATIONAL_IDS: Final[dict[str, tuple[NationalId, ...]]] = {
    "BE": (NationalId("be.nn", r"\d{2}[. ]?\d{2}[. ]?\d{2}[- ]?\d{3}[. ]?\d{2}"),),
    "BR": (NationalId("br.cpf", r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}"),),
    "CH": (NationalId("ch.ssn", r"756\.?\d{4}\.?\d{4}\.?\d{2}"),),
    "CN": (NationalId("cn.ric", r"\d{17}[\dXx]"),),
    "DE": (NationalId("de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}"),),
    "DK": (NationalId("dk.cpr", r"\d{6}-\d{4}"),),
    "ES": (
        NationalId("es.dni", r"\d{8}-?[A-Za-z]"),
        NationalId("es.nie", r"[XYZxyz]-?\d{7}-?[A-Za-z]"),
    ),
    "FI": (NationalId("fi.hetu", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-Z]"),),
    "FR": (NationalId("fr.nir", r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}"),),
    "GB": (NationalId("gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "nhs"),),
    "IN": (
        NationalId("in_.aadhaar", r"\d{4}[ -]\d{4}[ -]\d{4}"),
        NationalId("in_.pan", r"[A-Z]{5}\d{4}[A-Z]"),
    ),
    "IT": (NationalId("it.codicefiscale", r"(?i:[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z])"),),
    "NL": (NationalId("nl.bsn", r"\d{4}\.?\d{2}\.?\d{3}", "bsn|burgerservicenummer|sofi"),),
    "NO": (NationalId("no.fodselsnummer", r"\d{6} ?\d{5}"),),
    "PL": (NationalId("pl.pesel", r"\d{11}"),),
    "SE": (NationalId("se.personnummer", r"\d{6}(?:\d{2})?[-+]\d{4}"),),
    "US": (NationalId("us.ssn", r"\d{3}-\d{2}-\d{4}"),),
}
"""Ids by country."""


class _Verifier(Protocol):
    def is_valid(self, number: str) -> bool: ...


def build_pii_detectors(rule: PiiRule) -> Iterator[Detector]:
    """Yield the detectors of a rule; raise ValueError for a country without national ids."""
    types = set(rule.types)
    if "email" in types:
        yield Detector("EMAIL", _EMAIL, _validate_email, group=1)
    if "iban" in types:
        yield Detector("IBAN", _IBAN, _validate_iban, group=1)
    if "card" in types:
        yield Detector("CARD", _CARD, _validate_card, group=1)
    if "national_id" in types:
        yield from _build_id_detectors(rule.countries)
    if "phone" in types:
        yield Detector("PHONE", _PHONE, partial(_validate_phone, rule.countries), group=1)


def _build_id_detectors(countries: Sequence[str]) -> Iterator[Detector]:
    for country in countries:
        if country not in NATIONAL_IDS:
            known = ", ".join(sorted(NATIONAL_IDS))
            raise ValueError(
                f"national ids of {country} are not known; leave out the type national_id, or "
                f"choose from {known}"
            )
        for form in NATIONAL_IDS[country]:
            verifier: _Verifier = import_module(f"stdnum.{form.module}")
            words = re.compile(rf"(?i)\b(?:{form.words})\b") if form.words else None
            validate = partial(_validate_id, verifier, words)
            yield Detector("NATIONAL_ID", f"({form.pattern}){WORD_END}", validate, group=1)


def _validate_email(text: str, start: int, end: int) -> int | None:
    suffix = text[text.rindex(".", start, end) + 1 : end]
    is_address = suffix.lower() not in _FILE_SUFFIXES and not text.startswith("git@", start)
    return end if is_address and is_word_start(text, start) else None


def _validate_phone(countries: Sequence[str], text: str, start: int, end: int) -> int | None:
    if not is_word_start(text, start) or text[start - 1 : start] in {"+", "."}:
        return None
    is_international = text[start] == "+"
    count = sum(map(str.isdigit, text[start:end]))
    for last in range(end, start + 6, -1):
        if not text[last - 1].isdigit() and text[last - 1] != ")":
            continue
        # Otherwise it is a time, or a part of a longer number.
        is_whole = not text[last : last + 1].isdigit() and text[last : last + 1] != ":"
        if is_whole and (is_international or _may_be_national(text, start, last)):
            for country in [None] if is_international else countries:
                if _is_phone(text[start:last], count, country):
                    return last
        count -= text[last - 1].isdigit()
    return None


def _is_phone(candidate: str, digits: int, country: str | None) -> bool:
    """Whether a candidate is a number, with the grouping of its country if it has no country code.

    The grouping tells it from a date or an id.
    """
    groups = re.findall(r"\d+", candidate)
    # Parsing takes far longer than this.
    if (
        ("(" in candidate) != (")" in candidate)
        or len(groups) > _MAX_GROUPS
        or digits < _MIN_GROUP * (len(groups) - 1)
        or (country is not None and not _may_be_of(country, groups, digits))
    ):
        return False
    try:
        number = phonenumbers.parse(candidate, country)
    except phonenumbers.NumberParseException:
        return False
    if not phonenumbers.is_valid_number(number):
        return False
    if country is None or len(groups) == 1:
        return True
    national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
    expected = re.findall(r"\d+", national)
    return groups in (expected, [str(number.country_code), *expected])


def _may_be_of(country: str, groups: Sequence[str], digits: int) -> bool:
    lengths, prefix = _read_plan(country)
    return digits in lengths and groups[0].startswith(prefix)


@cache
def _read_plan(country: str) -> tuple[frozenset[int], str]:
    """Return the possible numbers of digits, and what numbers inside of the country start with."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    if metadata is None:
        return frozenset(), ""
    general = metadata.general_desc
    lengths = () if general is None else general.possible_length
    formats = [one.national_prefix_formatting_rule or "" for one in metadata.number_format]
    prefix = "0" if metadata.national_prefix == "0" and all(formats) else ""
    return frozenset([length + more for length in lengths for more in (0, 1)]), prefix


def _may_be_national(text: str, start: int, end: int) -> bool:
    """Whether the digits are grouped, or preceded by a word for phones: else, they are any id."""
    if not text[start:end].isdigit():
        return True
    return _PHONE_WORDS.search(text, max(start - CONTEXT, 0), start) is not None


def _validate_card(text: str, start: int, end: int) -> int | None:
    if not is_word_start(text, start) or text[start - 1 : start] in {"+", ".", "-"}:
        return None
    for last in range(end, start + 12, -1):
        # A number ends with a group of digits.
        if not text[last - 1].isdigit() or text[last : last + 1].isdigit():
            continue
        digits = re.sub(r"\D", "", text[start:last])
        if _CARD_BRANDS.fullmatch(digits) and luhn.is_valid(digits) and len(set(digits)) > 1:
            return last
    return None


def _validate_iban(text: str, start: int, end: int) -> int | None:
    if not is_word_start(text, start):
        return None
    for last in range(end, start + 14, -1):
        is_end = text[last - 1].isalnum() and not text[last : last + 1].isalnum()
        if is_end and iban.is_valid(text[start:last], check_country=False):
            return last
    return None


def _validate_id(
    verifier: _Verifier, words: re.Pattern[str] | None, text: str, start: int, end: int
) -> int | None:
    number = text[start:end]
    is_one_digit = len(set(filter(str.isalnum, number))) == 1
    if not is_word_start(text, start) or is_one_digit or not verifier.is_valid(number):
        return None
    if words is not None and words.search(text, max(start - CONTEXT, 0), start) is None:
        return None
    return end
