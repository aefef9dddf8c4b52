"""Numbers by which states know people, where the number itself says whether it is one: check digits and dates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgemoe.routing import check_digits as check

Check = Callable[[str], bool]

_NEAR = 40  # characters
_FEW = 100
"""Characters a place: with more places, another pass over the text is cheaper than a look at each of them."""


@dataclass(frozen=True)
class NationalId:
    """A `form` and the `pattern` of it standing alone, a check of what it found, without separators and in
    capitals, and words that must stand near it.
    """

    name: str
    form: str
    pattern: re.Pattern[str]
    check: Check
    near: re.Pattern[str] | None

    def holds(self, match: re.Match[str]) -> bool:
        """Whether what was found is such a number."""
        around = match.string[max(match.start() - _NEAR, 0) : match.end() + _NEAR]
        return (self.near is None or self.near.search(around) is not None) and self.check(_bare(match[0]))


def find_national_ids(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each number in `text`."""
    places = [place.start() for place in _ANY.finditer(text)]
    few = len(places) < len(text) // _FEW
    for kind in NATIONAL_IDS if places else ():
        found = (kind.pattern.match(text, start) for start in places) if few else kind.pattern.finditer(text)
        for match in found:
            if match and kind.holds(match):
                yield kind.name, match.start(), match.end()


_MRZ = re.compile(r"(?<![A-Z0-9<])([A-Z0-9<]{9})(\d)[A-Z<]{3}(\d{6})(\d)[MFX<](\d{6})(\d)(?=[A-Z0-9<])")


def find_travel_documents(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each line that machines read in a passport (ICAO Doc 9303), by its three check digits."""
    for match in _MRZ.finditer(text) if "<" in text else ():
        fields = zip(match.group(1, 3, 5), match.group(2, 4, 6), strict=True)
        if all(check.icao(field) == int(digit) for field, digit in fields):
            yield "passport", match.start(), match.end()


def _bare(number: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", number).upper()


def _alone(pattern: str) -> str:
    """A digit, letter or dash beside a number makes it part of something longer."""
    return rf"(?<![\w-])(?<![KMG]\()(?<!->)(?<!\d[./])(?:{pattern})(?![\w-]|[./]\d)"


def _kind(name: str, pattern: str, passes: Check, near: str | None = None) -> NationalId:
    words = re.compile(rf"\b(?:{near})\b", re.IGNORECASE) if near else None
    return NationalId(name, pattern, re.compile(_alone(pattern), re.IGNORECASE), passes, words)


NATIONAL_IDS = (
    _kind("US social security number", r"\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4}", check.us_ssn),
    _kind(
        "UK national insurance number",
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
        check.uk_nino,
    ),
    _kind("German tax number", r"\d{11}|\d{2} \d{3} \d{3} \d{3}", check.german_tax),
    _kind(
        "French social security number",
        r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}",
        check.french_nir,
    ),
    _kind("Spanish identity number", r"(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]", check.spanish_dni),
    _kind("Italian fiscal code", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", check.italian_code),
    _kind("Belgian national number", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", check.belgian),
    _kind("Swedish identity number", r"(?:\d{2})?\d{6}[-+]\d{4}", check.swedish),
    _kind("Finnish identity code", r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", check.finnish),
    _kind("Norwegian identity number", r"\d{6} ?\d{5}", check.norwegian),
    _kind("Polish PESEL", r"\d{11}", check.polish),
    _kind("Brazilian CPF", r"\d{3}\.\d{3}\.\d{3}-\d{2}|\d{11}", check.brazilian),
    _kind("Indian Aadhaar number", r"[2-9]\d{3}(?P<between>[ -])\d{4}(?P=between)\d{4}", check.aadhaar),
    _kind("Chinese identity number", r"[1-9]\d{16}[\dX]", check.chinese),
    _kind("Swiss AHV number", r"756\.\d{4}\.\d{4}\.\d{2}|756\d{10}", check.swiss),
    _kind("Korean resident number", r"\d{6}-\d{7}", check.korean),
    _kind("South African identity number", r"\d{13}", check.south_african),
    _kind("Canadian social insurance number", r"[0-79]\d{2}-\d{3}-\d{3}", check.luhn),
    _kind("Canadian social insurance number", r"[0-79]\d{2} ?\d{3} ?\d{3}", check.luhn, "SIN|NAS|social insurance"),
    _kind("US social security number", r"\d{9}", check.us_ssn, "SSN|social security"),
    _kind("Dutch citizen service number", r"\d{9}|\d{4}[ .]\d{2}[ .]\d{3}", check.dutch, "BSN|burgerservicenummer"),
    _kind("UK NHS number", r"\d{3}[ -]?\d{3}[ -]?\d{4}", check.nhs, "NHS"),
    _kind("Turkish identity number", r"[1-9]\d{10}", check.turkish),
    _kind("US taxpayer number", r"9\d{2}-\d{2}-\d{4}", check.us_itin),
    _kind("Czech or Slovak birth number", r"\d{6}/\d{4}", check.czech),
    _kind("Romanian CNP", r"[1-8]\d{12}", check.romanian),
    _kind("Mexican CURP", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z\d]\d", check.mexican),
    _kind("Indian PAN", r"[A-Z]{3}[PCHFATBLJG][A-Z]\d{4}[A-Z]", lambda n: True, "PAN|income tax|permanent account"),
    _kind("Singapore identity number", r"[STFG]\d{7}[A-Z]", check.singapore),
    _kind("Taiwanese identity number", r"[A-Z][12]\d{8}", check.taiwanese),
    _kind("Hong Kong identity number", r"[A-Z]\d{6}\([\dA]\)", check.hong_kong),
    _kind("Irish PPS number", r"\d{7}[A-W][A-IW]?", check.irish, "PPS|PPSN"),
    _kind("Portuguese tax number", r"[1-9]\d{8}|[1-9]\d{2} \d{3} \d{3}", check.portuguese, "NIF|contribuinte"),
    _kind("Australian tax file number", r"\d{3} ?\d{3} ?\d{3}", check.australian_tax, "TFN|tax file"),
    _kind("Danish CPR", r"\d{6}-?\d{4}", check.danish, "CPR|personnummer"),
    _kind("Israeli identity number", r"\d{9}", check.luhn, "teudat zehut|israeli id"),
    _kind("Austrian insurance number", r"\d{4} ?\d{6}", check.austrian, "SVNR|SV-Nummer|Sozialversicherungsnummer"),
    _kind("Japanese My Number", r"\d{4}[ -]?\d{4}[ -]?\d{4}", check.japanese, "my ?number|individual number"),
)

_FORMS = "|".join(kind.form for kind in NATIONAL_IDS)
_ANY = re.compile(rf"(?<![\w-])(?={_alone(_FORMS)})", re.IGNORECASE)
"""Where one of them may begin: one pass over a text in place of as many as there are kinds."""
