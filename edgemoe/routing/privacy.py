"""Personal data in a text: what must not leave the device.

Only what can be told by its form is found, as far as possible by check digits, or by the word before it: e-mail
addresses, telephone, card and account numbers, identity numbers, keys and passwords, dates of birth, postal addresses
with a postcode, addresses of devices. Names and what a text tells of somebody are not.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

from edgemoe.routing.addresses import find_devices, find_postal
from edgemoe.routing.check_digits import luhn
from edgemoe.routing.keys import find_keys
from edgemoe.routing.labelled import ACCOUNTS, BIRTHS, DOCUMENTS, NETWORK_NUMBERS, PASSWORDS, find_labelled
from edgemoe.routing.national_ids import find_national_ids, find_travel_documents
from edgemoe.routing.phones import find_phones

EMAIL, PHONE, CARD, IBAN, ID, KEY = "email", "phone", "card", "iban", "id", "key"
BIRTH, ADDRESS, NETWORK = "birth", "address", "network"
KINDS = (EMAIL, PHONE, CARD, IBAN, ID, KEY, BIRTH, ADDRESS, NETWORK)
NAMES = {
    EMAIL: "an e-mail address",
    PHONE: "a phone number",
    CARD: "a card number",
    IBAN: "a bank account number",
    ID: "an identity number",
    KEY: "a secret key",
    BIRTH: "a date of birth",
    ADDRESS: "a postal address",
    NETWORK: "a device's address",
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
    wanted = [kind for kind in KINDS if kind in kinds]
    found = [Finding(kind, *rest) for kind in wanted for search in _SEARCHES[kind] for rest in search(plain)]
    order = sorted(found, key=lambda f: (_PRECEDENCE.index(f.kind), f.start - f.end, f.start))
    kept: list[Finding] = []
    starts: list[int] = []
    for finding in order:
        place = bisect_left(starts, finding.start)
        if (not place or kept[place - 1].end <= finding.start) and (
            place == len(kept) or kept[place].start >= finding.end
        ):
            kept.insert(place, finding)
            starts.insert(place, finding.start)
    return kept


def describe(kinds: Iterable[str]) -> str:
    """For people: "an e-mail address and a phone number"."""
    present = set(kinds)
    names = [NAMES[kind] for kind in KINDS if kind in present]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


_PRECEDENCE = (KEY, EMAIL, IBAN, CARD, BIRTH, ID, NETWORK, PHONE, ADDRESS)

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
_DIGITS_ONLY = re.compile("A[ET]|B[AE]|C[RZ]|D[EK]|E[ES]|F[IO]|H[RU]|I[LS]|LT|M[ER]|NO|P[LT]|RS|S[EIK]|TL|XK")
"""Countries whose accounts have no letters."""
_BETWEEN = r"[ .\t\n-]"
_IBAN = re.compile(
    rf"(?:(?<![^\W_])|(?<=IBAN))(?=([A-Z]{{2}} ?\d{{2}}{_BETWEEN}{{0,2}}(?:[A-Z0-9]{_BETWEEN}{{0,2}}){{10,30}}))",
    re.IGNORECASE,
)


def _ibans(text: str) -> Iterator[tuple[str, int, int]]:
    for match in _IBAN.finditer(text):
        country = match[1][:2].upper()
        length = _LENGTHS.get(country, 0)
        account = re.sub(_BETWEEN, "", match[1])[:length].upper()
        if not length or len(account) < length or (_DIGITS_ONLY.match(country) and not account[4:].isdigit()):
            continue
        if match[1][2] == " " and not (match[1][:2].isupper() and _mostly_digits(account[4:])):
            continue  # "is 20 ..."
        end = match.start() + [i for i, c in enumerate(match[1]) if c.isalnum()][length - 1] + 1
        number = "".join(str(int(c, 36)) for c in account[4:] + account[:4])
        if int(number) % 97 == 1 and not text[end : end + 1].isalnum():
            yield IBAN, match.start(), end


def _mostly_digits(text: str) -> bool:
    return 3 * sum(map(str.isdigit, text)) >= 2 * len(text)


_SEARCHES: dict[str, tuple[Callable[[str], Iterator[tuple[str, int, int]]], ...]] = {
    EMAIL: (_emails,),
    PHONE: (find_phones,),
    CARD: (_cards,),
    IBAN: (_ibans, partial(find_labelled, kinds=ACCOUNTS)),
    ID: (find_national_ids, find_travel_documents, partial(find_labelled, kinds=DOCUMENTS)),
    KEY: (find_keys, partial(find_labelled, kinds=PASSWORDS)),
    BIRTH: (partial(find_labelled, kinds=BIRTHS),),
    ADDRESS: (find_postal,),
    NETWORK: (find_devices, partial(find_labelled, kinds=NETWORK_NUMBERS)),
}
