"""Where somebody lives, and the addresses of devices: by their form."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

# Postal addresses: a street with a number, and a postcode or a word that says whose it is.

_NAME = r"[A-ZÀ-Þ][\w'’.-]{0,24}"
_STREET = (
    r"(?:Street|St\.?|Road|Rd\.?|Avenue|Ave\.?|Lane|Ln\.?|Drive|Dr\.?|Court|Ct\.?|Boulevard|Blvd\.?|Way|Place|Pl\.?|"
    r"Square|Sq\.?|Terrace|Close|Crescent|Gardens|Grove|Parkway|Pkwy\.?|Circle|Highway|Hwy\.?|Mews|Walk)"
)
_ENGLISH = (
    rf"(?<![\w.,-])\d{{1,5}}[A-Za-z]?,? (?:[NSEW]\.? )?(?:{_NAME} |\d{{1,3}}(?:st|nd|rd|th) ){{1,3}}{_STREET}(?!\w)"
)
_REST = r"[^\n]{0,40}?(?:\n[^\n]{0,30}?){0,2}"
_POSTCODE = (
    r"(?<!\w)(?:[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[EWNS]\d{1,2}|(?:EC|WC|NW|SE|SW)\d{1,2}[A-Z]?|"
    r"[A-Z]\d[A-Z] ?\d[A-Z]\d|[A-Z]{2},? \d{5}(?:-\d{4})?|(?:NSW|VIC|QLD|SA|WA|TAS|ACT|NT),? \d{4})(?!\w)"
)
_PLACE = rf"[,\s]{{1,3}}(?:[A-Z]{{1,2}}-)?\d{{5}} {_NAME}"
_WORDS = r"(?:[^\W\d_][\w'’.-]{0,24} ){0,5}[^\W\d_][\w'’.-]{0,24}"
_POSTAL = (
    ("", re.compile(_ENGLISH + _REST + _POSTCODE)),
    (
        "",
        re.compile(
            rf"(?i:\b(?:i live at|i'm living at|i live in|my (?:home |postal )?address is|(?:home|postal|mailing|"
            rf"delivery|shipping) address:?|deliver(?:ed)? to|ship(?:ped)? to)) {{0,2}}:?\s?(?:{_ENGLISH})"
        ),
    ),
    (
        "",
        re.compile(
            r"(?:(?i:(?<=[^\W\d_]{2})(?:stra(?:ß|ss)e|str\.|weg|platz|allee|gasse|damm|ufer|ring))|"
            r"(?<=\w )(?:Straße|Strasse|Str\.|Weg|Platz|Allee|Ring|Damm|Gasse))"
            rf" \d{{1,4}} ?[a-z]?{_PLACE}"
        ),
    ),
    (
        "",
        re.compile(
            rf"(?<!\w)\d{{1,4}}(?: bis| ter)?,? (?i:rue|avenue|av\.|boulevard|bd|place|allée|chemin|impasse|quai|cours|"
            rf"route) {_WORDS}{_PLACE}"
        ),
    ),
    (
        "",
        re.compile(
            rf"(?<!\w)(?:[Cc]alle|C/|[Aa]venida|Avda\.?|Av\.|[Pp]laza|Paseo|Via|Viale|Piazza|Corso|Rua) ?{_WORDS},? "
            rf"(?:n[.º°]? ?)?\d{{1,4}}[^\n]{{0,15}}?{_PLACE}"
        ),
    ),
    (
        "",
        re.compile(
            rf"(?<!\w){_NAME}(?:straat|laan|weg|plein|gracht|kade) \d{{1,4}} ?[a-z]?[,\s]{{1,3}}"
            r"\d{4} ?[A-Z]{2}(?!\w)"
        ),
    ),
    ("〒", re.compile(r"〒\s?\d{3}-?\d{4}")),
    ("号", re.compile(r"[\u4e00-\u9fff]{2,8}[市区縣县][\u4e00-\u9fff]{1,12}(?:路|街|大道|巷|弄)\d{1,5}号")),
)


def find_postal(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each postal address."""
    for mark, pattern in _POSTAL:
        if mark in text:
            for match in pattern.finditer(text):
                yield "postal address", match.start(), match.end()


# Devices. IPv4 addresses need a word that says whose they are (see `labelled`): versions look like them.

_MAC = re.compile(r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])")
_CISCO_MAC = re.compile(r"(?<![\w.])(?=[\d.]{0,13}[a-f])[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}(?![\w.])")
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){2,6}[0-9A-Fa-f]{0,4}(?![\w:])")
_RESOLVERS = ("2001:4860:4860:", "2606:4700:4700:", "2620:fe:")
_LEAST_GROUPS = 4


def find_devices(text: str) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each hardware address, and of each global IPv6 address that is no example."""
    if ":" in text:
        for match in _IPV6.finditer(text):
            if _is_ipv6(match[0]):
                yield "IP address", match.start(), match.end()
    for pattern in (_MAC, _CISCO_MAC):
        for match in pattern.finditer(text):
            digits = re.sub(r"[^0-9A-Fa-f]", "", match[0]).lower()
            if len(set(digits)) > 4 and digits not in ("001122334455", "0123456789ab", "aabbccddeeff", "123456789abc"):
                yield "hardware address", match.start(), match.end()


def _is_ipv6(text: str) -> bool:
    if text.lower().startswith(_RESOLVERS) or sum(map(bool, text.split(":"))) < _LEAST_GROUPS:
        return False
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False
