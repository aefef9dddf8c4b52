"""Check digits and dates of the numbers by which states know people. Each takes a number without separators."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date


def icao(field: str) -> int:
    """Letters count from 10, fillers 0; weights 7, 3, 1."""
    values = [0 if c == "<" else int(c, 36) for c in field]
    return sum(value * (7, 3, 1)[i % 3] for i, value in enumerate(values)) % 10


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


def us_ssn(n: str) -> bool:
    """Area, group and serial as the Social Security Administration gives them out."""
    return n[:3] not in ("000", "666") and n[0] != "9" and n[3:5] != "00" and n[5:] != "0000" and n != "078051120"


def uk_nino(n: str) -> bool:
    """Prefixes that are never given out."""
    return n[:2] not in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")


def german_tax(n: str) -> bool:
    """ISO 7064 MOD 11,10; of the first ten digits one occurs twice or three times."""
    counts = [n[:10].count(d) for d in set(n[:10])]
    if n[0] == "0" or max(counts) not in (2, 3) or sum(c > 1 for c in counts) != 1:
        return False
    product = 10
    for digit in n[:10]:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(n[10])


def french_nir(n: str) -> bool:
    """A month or a code in its place, and 97 less the remainder by 97; Corsica's departments count 19 and 18."""
    body = n[:13].replace("2A", "19").replace("2B", "18")
    month = int(n[3:5])
    return body.isdigit() and (1 <= month <= 12 or 20 <= month <= 99) and 97 - int(body) % 97 == int(n[13:])


def spanish_dni(n: str) -> bool:
    """A letter for the remainder by 23; X, Y, Z of foreigners count 0, 1, 2."""
    number = n[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == n[-1]


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def italian_code(n: str) -> bool:
    """Places 1, 3, 5... go through a table, the others count as they are; the sum modulo 26 is the last letter."""
    values = [int(c) if c.isdigit() else ord(c) - ord("A") for c in n[:15]]
    total = sum(_ODD[v] if i % 2 == 0 else v for i, v in enumerate(values))
    return chr(ord("A") + total % 26) == n[15]


def belgian(n: str) -> bool:
    """97 less the remainder by 97, with a 2 in front from 2000 on."""
    birth = _is_date(n[:2], n[2:4], n[4:6])
    return birth and any(97 - int(century + n[:9]) % 97 == int(n[9:]) for century in ("", "2"))


def swedish(n: str) -> bool:
    """Luhn's check of the last ten digits; days of coordination numbers have 60 added."""
    short = n[-10:]
    day = int(short[4:6])
    return _is_date(n[:-8], short[2:4], f"{day - 60 if day > 60 else day:02}") and luhn(short)


def finnish(n: str) -> bool:
    """DDMMYY, a sign for the century (removed or a letter), three digits, and their remainder by 31."""
    digits = n[:6] + n[-4:-1]
    known = "0123456789ABCDEFHJKLMNPRSTUVWXY"
    return _is_date(n[4:6], n[2:4], n[:2]) and known[int(digits) % 31] == n[-1]


def norwegian(n: str) -> bool:
    """Two check digits modulo 11."""
    first = 11 - _weighted(n, (3, 7, 6, 1, 8, 9, 4, 5, 2)) % 11
    second = 11 - _weighted(n, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2)) % 11
    return _is_date(n[4:6], n[2:4], n[:2]) and first % 11 == int(n[9]) and second % 11 == int(n[10])


def polish(n: str) -> bool:
    """The month has 20, 40, 60 or 80 added for other centuries than the twentieth."""
    birth = _is_date(n[:2], f"{int(n[2:4]) % 20:02}", n[4:6])
    return birth and -_weighted(n, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10 == int(n[10])


def brazilian(n: str) -> bool:
    """Two check digits modulo 11, of which 10 counts as 0."""
    first = _weighted(n, range(10, 1, -1)) * 10 % 11 % 10
    second = _weighted(n, range(11, 1, -1)) * 10 % 11 % 10
    return len(set(n)) > 1 and first == int(n[9]) and second == int(n[10])


def _dihedral(a: int, b: int) -> int:
    """The product in the dihedral group of order 10, as Verhoeff numbers its elements."""
    if a < 5:
        return (a + b) % 5 + (5 if b >= 5 else 0)
    return (a - b) % 5 + (5 if b < 5 else 0)


def aadhaar(n: str) -> bool:
    """Verhoeff (1969)."""
    step = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    result = 0
    for i, digit in enumerate(reversed(n)):
        value = int(digit)
        for _ in range(i % 8):
            value = step[value]
        result = _dihedral(result, value)
    return result == 0


def chinese(n: str) -> bool:
    """GB 11643: ISO 7064 MOD 11-2."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return _is_date(n[6:10], n[10:12], n[12:14]) and "10X98765432"[_weighted(n[:17], weights) % 11] == n[17]


def swiss(n: str) -> bool:
    """EAN-13 behind the country's 756."""
    return -_weighted(n[:12], (1, 3) * 6) % 10 == int(n[12])


def korean(n: str) -> bool:
    """A date, and a digit for sex and century."""
    return _is_date(n[:2], n[2:4], n[4:6]) and n[6] in "12345678"


def south_african(n: str) -> bool:
    """A date, citizenship, and Luhn's check."""
    return _is_date(n[:2], n[2:4], n[4:6]) and n[10] in "01" and luhn(n)


def turkish(n: str) -> bool:
    """From the digits at odd and at even places, and from the sum of ten."""
    odd, even = sum(map(int, n[0:9:2])), sum(map(int, n[1:8:2]))
    return (7 * odd - even) % 10 == int(n[9]) and sum(map(int, n[:10])) % 10 == int(n[10])


def dutch(n: str) -> bool:
    """The test of eleven; the last digit counts -1."""
    return n != "000000000" and _weighted(n, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def nhs(n: str) -> bool:
    """Modulo 11; 11 counts as 0, and 10 is never given out."""
    return 11 - _weighted(n, range(10, 1, -1)) % 11 == (int(n[9]) or 11)


def czech(n: str) -> bool:
    """Women's months have 50 added, and 20 where numbers ran out."""
    month = int(n[2:4]) % 50
    return _is_date(n[:2], f"{month - 20 if month > 20 else month:02}", n[4:6]) and int(n) % 11 == 0


def romanian(n: str) -> bool:
    """A date, and weights modulo 11, of which 10 counts as 1."""
    check = _weighted(n, (2, 7, 9, 1, 4, 6, 3, 5, 8, 2, 7, 9)) % 11
    return _is_date(n[1:3], n[3:5], n[5:7]) and (1 if check == 10 else check) == int(n[12])


def mexican(n: str) -> bool:
    """CURP: the sum of places 18 to 2, by an alphabet with an N with tilde at 24."""
    values = ["0123456789ABCDEFGHIJKLMN~OPQRSTUVWXYZ".index(c) for c in n[:17]]
    return _is_date(n[4:6], n[6:8], n[8:10]) and -_weighted_values(values, range(18, 1, -1)) % 10 == int(n[17])


def _weighted_values(values: Sequence[int], weights: Sequence[int]) -> int:
    return sum(v * w for v, w in zip(values, weights, strict=True))


def singapore(n: str) -> bool:
    """Weights modulo 11 choose a letter, other ones for foreigners."""
    total = _weighted(n[1:8], (2, 7, 6, 5, 4, 3, 2)) + (4 if n[0] in "TG" else 0)
    return n[8] == ("JZIHGFEDCBA" if n[0] in "ST" else "XWUTRQPNMLK")[total % 11]


def taiwanese(n: str) -> bool:
    """The letter counts as two digits; the weighted sum ends with 0."""
    place = "ABCDEFGHJKLMNPQRSTUVXYWZIO".index(n[0]) + 10
    return (place // 10 + place % 10 * 9 + _weighted(n[1:], (8, 7, 6, 5, 4, 3, 2, 1, 1))) % 10 == 0


def hong_kong(n: str) -> bool:
    """Modulo 11, with a space counted before the letter."""
    total = (ord(n[0]) - 55) * 8 + 36 * 9 + _weighted(n[1:7], range(7, 1, -1))
    return (total + (10 if n[7] == "A" else int(n[7]))) % 11 == 0


def irish(n: str) -> bool:
    """Modulo 23; a second letter counts nine times."""
    second = ord(n[8]) - 64 if len(n) == 9 else 0
    return "WABCDEFGHIJKLMNOPQRSTUV"[(_weighted(n[:7], range(8, 1, -1)) + 9 * second) % 23] == n[7]


def portuguese(n: str) -> bool:
    """Modulo 11; 10 and 11 count as 0."""
    check = 11 - _weighted(n[:8], range(9, 1, -1)) % 11
    return (0 if check > 9 else check) == int(n[8])


def australian_tax(n: str) -> bool:
    """The weighted sum is divisible by 11."""
    return _weighted(n, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def danish(n: str) -> bool:
    """A date: there has been no check digit since 2007."""
    return _is_date(n[4:6], n[2:4], n[:2])


def austrian(n: str) -> bool:
    """The fourth digit is the weighted sum modulo 11; a date ends it."""
    total = _weighted(n[:3] + n[4:], (3, 7, 9, 5, 8, 4, 2, 1, 6)) % 11
    return _is_date(n[8:10], n[6:8], n[4:6]) and total == int(n[3])


def japanese(n: str) -> bool:
    """Modulo 11; remainders of 0 and 1 give 0."""
    rest = _weighted(n[10::-1], (2, 3, 4, 5, 6, 7, 2, 3, 4, 5, 6)) % 11
    return (0 if rest <= 1 else 11 - rest) == int(n[11])


def us_itin(n: str) -> bool:
    """The ranges of the middle group."""
    return int(n[3:5]) in {*range(50, 66), *range(70, 89), 90, 91, 92, *range(94, 100)}
