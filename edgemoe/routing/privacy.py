"""Personal data in a text: what must not leave the device.

Only what can be told by its form is found, as far as possible by check digits: e-mail addresses, telephone, card and
account numbers, national identity numbers, and keys. Names, addresses and what a text tells of somebody are not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from edgemoe.routing.national_ids import find_national_ids, luhn

EMAIL, PHONE, CARD, IBAN, ID, KEY = "email", "phone", "card", "iban", "id", "key"
KINDS = (EMAIL, PHONE, CARD, IBAN, ID, KEY)
NAMES = {
    EMAIL: "an e-mail address",
    PHONE: "a phone number",
    CARD: "a card number",
    IBAN: "a bank account number",
    ID: "an identity number",
    KEY: "a secret key",
}
"""The kinds in words, as a sentence has them."""


@dataclass(frozen=True)
class Finding:
    """Characters `start` to `end` of the normalised text; the text itself is not kept, lest it be logged."""

    kind: str
    name: str
    start: int
    end: int


def find_personal_data(text: str, kinds: Collection[str] = KINDS) -> list[Finding]:
    """What a text has of `kinds`, in order; of findings that overlap, the first of `KINDS` and then the longest."""
    if not re.search(r"[\d@_-]|[\[(]\s?at", text, re.IGNORECASE) and text.isascii():
        return []
    plain = _plain(text)
    found = [Finding(kind, *rest) for kind in KINDS if kind in kinds for rest in _SEARCHES[kind](plain)]
    order = sorted(found, key=lambda f: (_PRECEDENCE.index(f.kind), f.start - f.end, f.start))
    kept: list[Finding] = []
    for finding in order:
        if all(finding.end <= k.start or finding.start >= k.end for k in kept):
            kept.append(finding)
    return sorted(kept, key=lambda f: f.start)


def describe(kinds: Iterable[str]) -> str:
    """For people: "an e-mail address and a phone number"."""
    present = set(kinds)
    names = [NAMES[kind] for kind in KINDS if kind in present]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


_PRECEDENCE = (KEY, EMAIL, IBAN, CARD, ID, PHONE)

_INVISIBLE = dict.fromkeys([0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF])
_DASHES = {code: "-" for code in (*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFF0D)}


def _plain(text: str) -> str:
    """With ASCII digits, dashes and spaces, and without invisible characters."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text.translate(_INVISIBLE | _DASHES))
    digits = {ord(c): str(unicodedata.decimal(c)) for c in set(text) if not c.isascii() and c.isdecimal()}
    return text.translate(digits)


# E-mail. The last label of a domain is no ending of a file, and no attribute of an array (x@y.mean is a product).

_EMAIL = re.compile(
    r"(?<![\w.+-])([\w.+'-]{1,64}?|\"[\w.+ '-]{1,64}\")(?:@|%40|\s?[\[(]\s?at\s?[\])]\s?)"
    r"((?:[\w-]{1,63}(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)){1,8})([^\W\d_]{2,24}|xn--[\w-]{1,59})(?![\w-])",
    re.IGNORECASE,
)
_NO_DOMAIN = re.compile(
    "png|jpe?g|gif|svg|webp|ico|bmp|pdf|css|html?|[jt]sx?|json|ya?ml|toml|txt|csv|xml|gz|tar|whl|exe|dll|shape|mean|"
    "sum|dot|size|data|values|reshape|transpose|astype|copy|item|numpy|grad|detach|local|localhost"
)
_NOBODY = {"git", "noreply", "no-reply", "do-not-reply", "donotreply"}


def _emails(text: str) -> Iterator[tuple[str, int, int]]:
    for match in (
        _EMAIL.finditer(text) if "@" in text or "%40" in text or re.search(r"[\[(]\s?at", text, re.IGNORECASE) else ()
    ):
        person, top = match[1].lower().strip(".'"), match[3].lower()
        if person and not _NO_DOMAIN.fullmatch(top) and person not in _NOBODY:
            yield EMAIL, match.start(), match.end()


# Cards, ISO/IEC 7812: issuers' first digits, their lengths, and Luhn's check.

_CARD = re.compile(r"(?<![\w-])(?<!\d[.,])\d{3,19}(?:[ -]\d{3,}){0,5}(?:[ -]\d{1,2})?(?![\w-]|[.]\d)")
_CARD_ALONE = re.compile(  # in the groups that are printed, whatever number follows
    r"(?<![\w-])(?<!\d[.,])(?:\d{4}(?:[ .\t\n-]{1,2}\d{4}){3}|\d{4}[ .-]\d{6}[ .-]\d{4,5}|\d{13,19})(?![\w-]|[.]\d)"
)
_ISSUERS = (
    (re.compile(r"4"), (13, 16, 19)),
    (re.compile(r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),
    (re.compile(r"3[47]"), (15,)),
    (re.compile(r"30[0-5]|36|3[89]"), (14, 16, 19)),
    (re.compile(r"6011|64[4-9]|65"), (16, 19)),
    (re.compile(r"352[89]|35[3-8]"), (16, 19)),
    (re.compile(r"62|81"), (16, 17, 18, 19)),
    (re.compile(r"5018|5020|5038|5893|6304|6759|676[123]"), (13, 16, 18, 19)),
)


def _cards(text: str) -> Iterator[tuple[str, int, int]]:
    for match in chain(_CARD.finditer(text), _CARD_ALONE.finditer(text)):
        digits = re.sub(r"\D", "", match[0])
        if 13 <= len(digits) <= 19 and len(set(digits)) > 1 and _has_issuer(digits) and luhn(digits):
            yield CARD, match.start(), match.end()


def _has_issuer(digits: str) -> bool:
    return any(first.match(digits) and len(digits) in lengths for first, lengths in _ISSUERS)


# IBAN, ISO 13616: a length for each country, and a remainder of 1 modulo 97.

_LENGTHS = dict(
    AD=24, AE=23, AL=28, AT=20, AZ=28, BA=20, BE=16, BG=22, BH=22, BR=29, BY=28, CH=21, CR=22, CY=28, CZ=24, DE=22,
    DK=18, DO=28, EE=20, EG=29, ES=24, FI=18, FO=18, FR=27, GB=22, GE=22, GI=23, GL=18, GR=27, GT=28, HR=21, HU=28,
    IE=22, IL=23, IQ=23, IS=26, IT=27, JO=30, KW=30, KZ=20, LB=28, LC=32, LI=21, LT=20, LU=20, LV=21, LY=25, MC=27,
    MD=24, ME=22, MK=19, MR=27, MT=31, MU=30, NL=18, NO=15, PK=24, PL=28, PS=29, PT=25, QA=29, RO=24, RS=22, SA=24,
    SC=31, SD=18, SE=24, SI=19, SK=24, SM=27, SN=28, ST=25, SV=28, TL=23, TN=24, TR=26, UA=29, VA=22, VG=24, XK=20,
)  # fmt: skip
_IBAN = re.compile(
    r"(?:(?<![^\W_])|(?<=IBAN))(?=([A-Z]{2}\d{2}[ .\t\n-]?(?:[A-Z0-9][ .\t\n-]?){10,30}))", re.IGNORECASE
)


def _ibans(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _IBAN.finditer(text):
        length = _LENGTHS.get(match[1][:2].upper(), 0)
        places = [i for i, c in enumerate(match[1]) if c.isalnum()]
        if not length or len(places) < length:
            continue
        end = match.start() + places[length - 1] + 1
        account = re.sub(r"[ .\t\n-]", "", text[match.start() : end]).upper()
        number = "".join(str(int(c, 36)) for c in account[4:] + account[:4])
        if int(number) % 97 == 1 and not text[end : end + 1].isalnum():
            yield IBAN, match.start(), end


# Phones: with a country's code, as in North America, with a zero before the area, or behind a word that says so.

_ALONE = r"(?<![\w-])(?<!\d[.,/])"
_FIRST = r"(?<!\d )"  # of a row of numbers
_PHONES = tuple(
    re.compile(_ALONE + pattern + r"(?![\w-]|[.,]\d|/\d)")
    for pattern in (
        r"(?:\+[ ]?|(?<!\d )00)[1-9]\d{0,2}[ .-]?(?:\(0?\d{1,4}\)[ .-]?)?\d{1,5}(?:[ ./-]?\d{2,5}){1,5}",
        r"(?:\+?1[ .-]?)?(?:\([2-9]\d{2}\)[ ]?|[2-9]\d{2}([ .-]))[2-9]\d{2}[ .-]\d{4}",
        _FIRST + r"\(?0[1-9]\d{0,3}\)?[ /-]\d{3,8}(?:[ -]\d{2,5}){0,3}",
        _FIRST + r"0\d(?:([ .-])\d{2})(?:\1\d{2}){3}",
        r"(?:01[5-7]\d{8,9}|07\d{9}|0[67]\d{8}|0[789]0\d{8})",
        r"\([1-9]\d\) 9?\d{4}-\d{4}",
        r"8[ -]?\(?[3489]\d{2}\)?[ -]\d{3}-\d{2}-\d{2}",
    )
)
_SAYS_PHONE = re.compile(
    r"(?:(?<!\w)(?:my number|phone|call|tel|telephone|mobile|cell|whats ?app|text|sms|fax|ring|telefon\w*|handy|"
    r"anrufen|téléphone|portable|teléfono|móvil|celular|telefone|cellulare|telefoon|телефон)\b|(?:电话|手机|電話|전화)[^\W\d]{0,6})\W{0,3}(?:\w+\W{1,2}){0,4}"
    r"(\+?\(?\d[\d ().-]{6,18}\d)(?![\w-]| (?:char|word|byte|token|time|line|people))",
    re.IGNORECASE,
)

_DATES = re.compile(
    r"\d{4}[-.]\d{1,2}[-.]\d{1,2}(?: \d+)?|\d{1,2}[-./]\d{1,2}[-./]\d{4}|(?:1\d|20)\d\d ?- ?(?:1\d|20)\d\d"
)


def _phones(text: str) -> Iterator[tuple[str, int, int]]:
    for match in (m for pattern in _PHONES for m in pattern.finditer(text)):
        if _could_be_phone(match[0], 9 if match[0].startswith("0") and not match[0].startswith("00") else 8):
            yield PHONE, match.start(), match.end()
    for match in _SAYS_PHONE.finditer(text):
        if _could_be_phone(match[1], 7):
            yield PHONE, match.start(1), match.end(1)


def _could_be_phone(number: str, fewest: int) -> bool:
    """ITU E.164: at most 15 digits. Dates and counts of many groups are none."""
    digits = re.sub(r"\D", "", number).removeprefix("00")
    is_date = _DATES.fullmatch(number)
    return fewest <= len(digits) <= 15 and len(set(digits)) > 1 and not is_date


# Keys, by the marks that their makers gave them.

_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|"
    r"\bgh[pousr]_[A-Za-z0-9]{36,}\b|\bgithub_pat_\w{22,}\b|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}|(?<![\w-])sk-(?:[a-z]{1,12}-){0,3}[A-Za-z0-9_]{20,}|"
    r"\bAIza[\w-]{35}|\b[rs]k_live_[A-Za-z0-9]{16,}|(?<![\w-])sk-ant-[a-z0-9]{1,10}-[\w-]{20,}|"
    r"\bhf_[A-Za-z0-9]{30,}|\bnpm_[A-Za-z0-9]{36}|(?<![\w-])pypi-AgE[\w-]{20,}|"
    r"(?<![\w-])eyJ[\w-]{10,4000}\.[\w-]{10,4000}\.[\w-]{10,4000}|"
    r"(?i:aws_?secret\w{0,30}[\"']?\s{0,3}[=:]\s{0,3}[\"']?)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"
)


def _keys(text: str) -> Iterator[tuple[str, int, int]]:
    return ((KEY, match.start(), match.end()) for match in _KEY.finditer(text))


_SEARCHES = {EMAIL: _emails, PHONE: _phones, CARD: _cards, IBAN: _ibans, ID: find_national_ids, KEY: _keys}
