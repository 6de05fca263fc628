"""Detectors of personal data: addresses, numbers of phones, cards and accounts, national ids."""

import re
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from itertools import islice
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
_DIGITS: Final = re.compile(r"\d+")
_MAX_GROUPS: Final = 6
_MIN_DIGITS: Final = 7
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
        for country in rule.countries:
            _read_plan(country)  # which imports it, before there are requests
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
    places = [found.span() for found in islice(_DIGITS.finditer(text, start, end), _MAX_GROUPS)]
    groups = [text[first:last] for first, last in places]
    while (digits := sum(map(len, groups))) >= _MIN_DIGITS:
        last = places[len(groups) - 1][1]
        # Otherwise it is a time, or a part of a longer number.
        is_whole = not text[last : last + 1].isdigit() and text[last : last + 1] != ":"
        if is_whole and digits >= _MIN_GROUP * (len(groups) - 1):
            candidate = text[start:last]
            balanced = ("(" in candidate) == (")" in candidate)
            if balanced and _is_phone(
                candidate, groups, digits, _choose(countries, text, start, last)
            ):
                return last
        groups.pop()
    return None


def _choose(countries: Sequence[str], text: str, start: int, end: int) -> Sequence[str | None]:
    """Return the countries whose number it may be; None for one with a country code."""
    if text[start] == "+":
        return [None]
    return countries if _may_be_national(text, start, end) else []


def _is_phone(
    candidate: str, groups: Sequence[str], digits: int, countries: Sequence[str | None]
) -> bool:
    """Whether a candidate is a number, with the grouping of its country if it has no country code.

    The grouping tells it from a date or an id.
    """
    for country in countries:
        # Parsing takes far longer than this.
        if country is not None and not _may_be_of(country, groups, digits):
            continue
        try:
            number = phonenumbers.parse(candidate, country)
        except phonenumbers.NumberParseException:
            continue
        if not phonenumbers.is_valid_number(number):
            continue
        if country is None or len(groups) == 1:
            return True
        national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        expected = _DIGITS.findall(national)
        if list(groups) in (expected, [str(number.country_code), *expected]):
            return True
    return False


def _may_be_of(country: str, groups: Sequence[str], digits: int) -> bool:
    lengths, form = _read_plan(country)
    return digits in lengths and (len(groups) == 1 or form.fullmatch(" ".join(groups)) is not None)


@cache
def _read_plan(country: str) -> tuple[frozenset[int], re.Pattern[str]]:
    """Return the possible numbers of digits in a country, and the form of their groups."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    if metadata is None or metadata.general_desc is None:
        return frozenset(), re.compile("")
    lengths = metadata.general_desc.possible_length
    patterns = [str(one.pattern).replace(")(", ") (") for one in metadata.number_format]
    prefix = re.escape(metadata.national_prefix or "")
    return (
        frozenset([length + more for length in lengths for more in (0, 1)]),
        re.compile(f"(?:{prefix} ?)?(?:{'|'.join(patterns)})"),
    )


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
