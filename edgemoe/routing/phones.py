"""Phone numbers: with a country's code, as some countries write them, or behind a word that says so."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ALONE = r"(?<![\w-])(?<!\d[.,/])"
_FIRST = r"(?<!\d )"  # of a row of numbers
_EXTENSION = r"(?:,? ?(?:x|ext\.?|extension|Durchwahl|poste|#) ?\d{1,5})?"
_PHONES = tuple(
    re.compile(_ALONE + pattern + _EXTENSION + r"(?![\w-]|[.,]\d|/\d)")
    for pattern in (
        r"\(?(?:\+|(?<![\w)\]] )\+ |(?<!\d )(?<!/)00)[1-9]\d{0,2}\)?[ .-]?(?:\(0?\d{0,4}\)[ .-]?)?\d{1,5}"
        r"(?:(?: ?[./-] ?| )?\d{2,5}){1,5}",
        r"(?:\+?1[ .-]?)?(?:\([2-9]\d{2}\)[ -]?|[2-9]\d{2}([ .-]))[2-9]\d{2}[ .-]\d{4}",
        _FIRST + r"\(?0[1-9]\d{0,3}\)?(?: ?[/-] ?| )\d{3,8}(?:[ -]\d{2,5}){0,3}",
        _FIRST + r"0\d(?:([ .-])\d{2})(?:\1\d{2}){3}",
        r"(?<!/)(?:01[5-7]\d{8,9}|07\d{9}|0[67]\d{8}|0[789]0\d{8})",
        r"\([1-9]\d\) 9?\d{4}-\d{4}",
        r"8[ -]?\(?[3489]\d{2}\)?[ -]\d{3}-\d{2}-\d{2}",
    )
)
_SAYS_PHONE = re.compile(
    r"(?:(?<!\w)(?:my number|phone|call|tel|tlf|telephone|mobile|cell|whats ?app|text(?![\"'])|sms|fax|ring|reach me|"
    r"contact number|telefon\w*|handy|anrufen|rufnummer|téléphone|portable|teléfono|móvil|celular|telefone|cellulare|"
    r"telefoon|puhelin|телефон)\b|(?:电话|手机|電話|전화)[^\W\d]{0,6})\W{0,3}(?:\w+[^\w=&?/]{1,2}){0,4}"
    r"(\+?\(?\d[\d ().-]{6,18}\d)(?![\w-]| (?:char|word|byte|token|time|line|people))",
    re.IGNORECASE,
)
_CHINESE_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
_CHINESE_MOBILE = re.compile(
    r"(?<![〇零一二三四五六七八九])一[三四五六七八九][〇零一二三四五六七八九]{9}(?![〇零一二三四五六七八九])"
)

_DATES = re.compile(
    r"\d{4}[-.]\d{1,2}[-.]\d{1,2}(?: \d+)?|\d{1,2}[-./]\d{1,2}[-./]\d{4}|(?:1\d|20)\d\d ?- ?(?:1\d|20)\d\d"
)

_ISBN = re.compile(r"ISBN\S{0,4}\s?$", re.IGNORECASE)


def find_phones(text: str) -> Iterator[tuple[str, int, int]]:
    """("phone", start, end) of each number in `text`."""
    for match in (m for pattern in _PHONES for m in pattern.finditer(text)):
        short = match[0].startswith("0") and not match[0].startswith("00")
        if _could_be_phone(match[0], 9 if short else 8) and not _ISBN.search(
            text[max(match.start() - 12, 0) : match.start()]
        ):
            yield "phone", match.start(), match.end()
    for match in _SAYS_PHONE.finditer(text):
        if _could_be_phone(match[1], 7):
            yield "phone", match.start(1), match.end(1)
    for match in _CHINESE_MOBILE.finditer(text) if not text.isascii() else ():
        if _could_be_phone(match[0].translate(_CHINESE_DIGITS), 11):
            yield "phone", match.start(), match.end()


def _could_be_phone(number: str, fewest: int) -> bool:
    """ITU E.164: at most 15 digits, and an extension. Dates and counts of many groups are none."""
    digits = re.sub(r"\D", "", re.split(r"[^\d)( ./+-]", number)[0]).removeprefix("00")
    is_date = _DATES.fullmatch(number)
    return fewest <= len(digits) <= 15 and len(set(digits)) > 1 and not is_date
