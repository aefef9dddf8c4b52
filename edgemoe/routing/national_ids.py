"""Numbers by which states know people, where the number itself says whether it is one: check digits and dates."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

Check = Callable[[str], bool]

_NEAR = 40  # characters


@dataclass(frozen=True)
class NationalId:
    """A pattern, a check of what it found without separators and in capitals, and words that must stand near it."""

    name: str
    pattern: re.Pattern[str]
    check: Check
    near: re.Pattern[str] | None


def find_national_ids(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each number in `text`."""
    for kind in NATIONAL_IDS:
        for match in kind.pattern.finditer(text):
            around = text[max(match.start() - _NEAR, 0) : match.end() + _NEAR]
            if (kind.near is None or kind.near.search(around)) and kind.check(_bare(match[0])):
                yield kind.name, match.start(), match.end()


def _bare(number: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", number).upper()


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + i % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(d) * w for d, w in zip(digits, weights, strict=False))


def _is_date(year: str, month: str, day: str) -> bool:
    """A day of any century that could be meant by two digits of a year, or by four."""
    years = [int(year)] if len(year) == 4 else [1900 + int(year), 2000 + int(year)]
    for candidate in years:
        try:
            date(candidate, int(month), int(day))
        except ValueError:
            continue
        return 1870 <= candidate <= 2100
    return False


def _us_ssn(n: str) -> bool:
    """Area, group and serial as the Social Security Administration gives them out."""
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000" and n != "078051120"


def _uk_nino(n: str) -> bool:
    return n[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def _german_tax(n: str) -> bool:
    """ISO 7064 MOD 11,10; of the first ten digits one occurs twice or three times."""
    counts = [n[:10].count(d) for d in set(n[:10])]
    if n[0] == "0" or max(counts) not in (2, 3) or sum(c > 1 for c in counts) != 1:
        return False
    product = 10
    for digit in n[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(n[10])


def _french_nir(n: str) -> bool:
    body = n[:13].replace("2A", "19").replace("2B", "18")
    month = int(n[3:5])
    return body.isdigit() and (1 <= month <= 12 or 20 <= month <= 99) and 97 - int(body) % 97 == int(n[13:])


def _spanish_dni(n: str) -> bool:
    number = n[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == n[-1]


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def _italian_code(n: str) -> bool:
    """Places 1, 3, 5... go through a table, the others count as they are; the sum modulo 26 is the last letter."""
    values = [int(c) if c.isdigit() else ord(c) - ord("A") for c in n[:15]]
    total = sum(_ODD[v] if i % 2 == 0 else v for i, v in enumerate(values))
    return chr(ord("A") + total % 26) == n[15]


def _belgian(n: str) -> bool:
    birth = _is_date(n[:2], n[2:4], n[4:6])
    return birth and any(97 - int(century + n[:9]) % 97 == int(n[9:]) for century in ("", "2"))


def _swedish(n: str) -> bool:
    short = n[-10:]
    day = int(short[4:6])
    return _is_date(n[:-8], short[2:4], f"{day - 60 if day > 60 else day:02}") and luhn(short)


def _finnish(n: str) -> bool:
    """DDMMYY, a sign for the century (removed or a letter), three digits, and their remainder by 31."""
    digits = n[:6] + n[-4:-1]
    known = "0123456789ABCDEFHJKLMNPRSTUVWXY"
    return _is_date(n[4:6], n[2:4], n[:2]) and known[int(digits) % 31] == n[-1]


def _norwegian(n: str) -> bool:
    first = 11 - _weighted(n, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = 11 - _weighted(n, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return _is_date(n[4:6], n[2:4], n[:2]) and first % 11 == int(n[9]) and second % 11 == int(n[10])


def _polish(n: str) -> bool:
    """The month has 20, 40, 60 or 80 added for other centuries than the twentieth."""
    birth = _is_date(n[:2], f"{int(n[2:4]) % 20:02}", n[4:6])
    return birth and -_weighted(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10 == int(n[10])


def _brazilian(n: str) -> bool:
    first = _weighted(n, range(10, 1, -1)) * 10 % 11 % 10
    second = _weighted(n, range(11, 1, -1)) * 10 % 11 % 10
    return len(set(n)) > 1 and first == int(n[9]) and second == int(n[10])


def _dihedral(a: int, b: int) -> int:
    """The product in the dihedral group of order 10, as Verhoeff numbers its elements."""
    if a < 5:
        return (a + b) % 5 + (5 if b >= 5 else 0)
    return (a - b) % 5 + (5 if b < 5 else 0)


def _aadhaar(n: str) -> bool:
    """Verhoeff (1969)."""
    step = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    result = 0
    for i, digit in enumerate(reversed(n)):
        value = int(digit)
        for _ in range(i % 8):
            value = step[value]
        result = _dihedral(result, value)
    return result == 0


def _chinese(n: str) -> bool:
    """GB 11643: ISO 7064 MOD 11-2."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return _is_date(n[6:10], n[10:12], n[12:14]) and "10X98765432"[_weighted(n[:17], weights) % 11] == n[17]


def _swiss(n: str) -> bool:
    """EAN-13 behind the country's 756."""
    return -_weighted(n[:12], (1, 3) * 6) % 10 == int(n[12])


def _korean(n: str) -> bool:
    return _is_date(n[:2], n[2:4], n[4:6]) and n[6] in "12345678"


def _south_african(n: str) -> bool:
    return _is_date(n[:2], n[2:4], n[4:6]) and n[10] in "01" and luhn(n)


def _turkish(n: str) -> bool:
    odd, even = sum(map(int, n[0:9:2])), sum(map(int, n[1:8:2]))
    return (7 * odd - even) % 10 == int(n[9]) and sum(map(int, n[:10])) % 10 == int(n[10])


def _dutch(n: str) -> bool:
    return n != "000000000" and _weighted(n, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def _nhs(n: str) -> bool:
    return 11 - _weighted(n, range(10, 1, -1)) % 11 == (int(n[9]) or 11)


def _kind(name: str, pattern: str, check: Check, near: str | None = None) -> NationalId:
    """Numbers stand alone: a digit, letter or dash beside them makes them part of something longer."""
    alone = rf"(?<![\w-])(?<!\d[./])(?:{pattern})(?![\w-]|[./]\d)"
    words = re.compile(rf"\b(?:{near})\b", re.IGNORECASE) if near else None
    return NationalId(name, re.compile(alone, re.IGNORECASE), check, words)


NATIONAL_IDS = (
    _kind("US social security number", r"\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4}", _us_ssn),
    _kind(
        "UK national insurance number",
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]",
        _uk_nino,
    ),
    _kind("German tax number", r"\d{11}|\d{2} \d{3} \d{3} \d{3}", _german_tax),
    _kind("French social security number", r"[12] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}", _french_nir),
    _kind("Spanish identity number", r"(?:\d{8}|[XYZ]-?\d{7})-?[A-Z]", _spanish_dni),
    _kind("Italian fiscal code", r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", _italian_code),
    _kind("Belgian national number", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", _belgian),
    _kind("Swedish identity number", r"(?:\d{2})?\d{6}[-+]\d{4}", _swedish),
    _kind("Finnish identity code", r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]", _finnish),
    _kind("Norwegian identity number", r"\d{6} ?\d{5}", _norwegian),
    _kind("Polish PESEL", r"\d{11}", _polish),
    _kind("Brazilian CPF", r"\d{3}\.\d{3}\.\d{3}-\d{2}|\d{11}", _brazilian),
    _kind("Indian Aadhaar number", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", _aadhaar),
    _kind("Chinese identity number", r"[1-9]\d{16}[\dX]", _chinese),
    _kind("Swiss AHV number", r"756\.\d{4}\.\d{4}\.\d{2}|756\d{10}", _swiss),
    _kind("Korean resident number", r"\d{6}-\d{7}", _korean),
    _kind("South African identity number", r"\d{13}", _south_african),
    _kind("Canadian social insurance number", r"[0-79]\d{2}-\d{3}-\d{3}", luhn),
    _kind("Canadian social insurance number", r"[0-79]\d{2} ?\d{3} ?\d{3}", luhn, "SIN|NAS|social insurance"),
    _kind("US social security number", r"\d{9}", _us_ssn, "SSN|social security"),
    _kind("Dutch citizen service number", r"\d{9}|\d{4}[ .]\d{2}[ .]\d{3}", _dutch, "BSN|burgerservicenummer"),
    _kind("UK NHS number", r"\d{3}[ -]?\d{3}[ -]?\d{4}", _nhs, "NHS"),
    _kind("Turkish identity number", r"[1-9]\d{10}", _turkish),
)
