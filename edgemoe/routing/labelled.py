"""Personal numbers that only the word before them tells: "passport no. 123456789", "date of birth: 12.03.1985"."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Check = Callable[[str], bool]


@dataclass(frozen=True)
class Labelled:
    """`words` that a text must have for `pattern` to be looked for; a check of its first group."""

    name: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Check


def find_labelled(text: str, kinds: tuple[Labelled, ...]) -> Iterator[tuple[str, int, int]]:
    """(name, start, end) of each value in `text` that stands behind its word."""
    lower = text.lower()
    for kind in kinds:
        if any(word in lower for word in kind.words):
            for match in kind.pattern.finditer(text):
                if kind.check(match[1]):
                    yield kind.name, match.start(1), match.end(1)


_GAP = r"[^\W\d]{0,8}(?:[^\w\n]{1,3}[^\W\d_]{1,12}){0,3}[^\w\n]{0,4}\n?"
"""The end of the word, and up to three more, such as "number is"."""


def _kind(name: str, labels: str, value: str, check: Check, gap: str = _GAP) -> Labelled:
    """`labels` are separated by "|"; a space in one stands for a space, a dash, an underscore, or nothing."""
    every = sorted(labels.split("|"), key=len, reverse=True)
    words = tuple({max(label.split(" "), key=len) for label in every})
    plain = "|".join(re.escape(label).replace(r"\ ", "[ _-]?") for label in every)
    spaced = every[-1][0].isascii()  # not every script puts spaces between words
    started, begun, ended = (r"(?<![^\W\d_])", r"(?<!\w)", r"(?!\w)") if spaced else ("", "", r"(?!\d)")
    return Labelled(name, words, re.compile(rf"{started}(?i:{plain}){gap}{begun}({value}){ended}"), check)


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _is_document(text: str) -> bool:
    return 5 <= _digits(text) <= 14 and len({*text} - {*" -"}) > 2


_DOCUMENT = r"[A-Za-z]{0,3}[ -]?\d{2}[ -]?\d{2}[ -]?\d{2,8}[A-Za-z]{0,2}|(?=(?:[A-Za-z]{0,8}\d){4})[A-Za-z0-9]{8,16}"

DOCUMENTS = (
    _kind(
        "passport or identity card",
        "passport|reisepass|reisepassnummer|passeport|pasaporte|passaporto|passaporte|paspoort|pasaport|paszport|"
        "id card|identity card|personalausweis|ausweisnummer|carte d'identité|carta d'identità|driving licence|"
        "driving license|driver's license|driver's licence|drivers license|driver license|führerschein|"
        "führerscheinnummer|permis de conduire|passnummer",
        _DOCUMENT,
        _is_document,
    ),
    _kind("passport or identity card", "паспорт|паспорта|护照|護照|パスポート|旅券|여권", _DOCUMENT, _is_document),
    _kind(
        "medical or insurance number",
        "medical record number|medical record no|mrn|patient id|patient number|health insurance number|"
        "insurance policy number|versichertennummer|krankenversichertennummer|medicare number|medicare no",
        _DOCUMENT,
        _is_document,
    ),
    _kind(
        "vehicle",
        "vin|vin number|chassis number|fahrgestellnummer",
        r"[A-HJ-NPR-Z0-9]{17}",
        lambda text: _digits(text) >= 5 and _digits(text) < 17,
    ),
    _kind(
        "licence plate",
        "licence plate|license plate|number plate|registration plate|plate number|autokennzeichen|kfz kennzeichen|"
        "kennzeichen|nummernschild|plaque d'immatriculation|immatriculation|matrícula|kenteken|targa",
        r"(?=[A-Z0-9ÄÖÜ -]{0,9}\d)(?=[A-Z0-9ÄÖÜ -]{0,9}[A-ZÄÖÜ])[A-Z0-9ÄÖÜ]{1,4}(?:[ -]?[A-Z0-9]{1,4}){1,3}",
        lambda text: 5 <= sum(map(str.isalnum, text)) <= 8 and _digits(text) >= 2,
    ),
    _kind(
        "licence plate",
        "车牌|車牌|车牌号|車牌號|госномер",
        r"[^\W\d_a-z] ?[A-Z0-9А-Я]{1}·?[A-ZА-Я0-9]{4,7}",
        lambda text: True,
    ),
)


def _is_account(text: str) -> bool:
    return 6 <= _digits(text) <= 20 and len({*text} - {*" -"}) > 1


def _is_routing(text: str) -> bool:
    """American Bankers Association: weights 3, 7, 1."""
    return sum(int(d) * w for d, w in zip(text, (3, 7, 1) * 3, strict=True)) % 10 == 0


ACCOUNTS = (
    _kind(
        "account number",
        "account number|account no|acct number|acct no|kontonummer|konto nr|numéro de compte|"
        "número de cuenta|numero di conto|número da conta|rekeningnummer|numer konta|hesap numarası",
        r"\d(?:[ -]?\d){5,19}",
        _is_account,
    ),
    _kind(
        "account number",
        "номер счета|номер счёта|银行账号|银行卡号|銀行帳號|口座番号|계좌번호",
        r"\d(?:[ -]?\d){5,19}",
        _is_account,
    ),
    _kind("sort code", "sort code", r"\d\d-\d\d-\d\d|\d\d \d\d \d\d|\d{6}", lambda text: True),
    _kind("routing number", "routing number|routing no|aba number", r"\d{9}", _is_routing),
)

_MONTH = r"[^\W\d_]{3,12}\.?"
_DATE = (
    rf"\d{{1,2}}[./ -]\d{{1,2}}[./ -](?:\d{{4}}|\d\d)|\d{{4}}[./-]\d{{1,2}}[./-]\d{{1,2}}|"
    rf"\d{{1,2}}(?:st|nd|rd|th|er|\.|º)? ?(?:of |de |di )?{_MONTH},? (?:of |de |del )?\d{{4}}|"
    rf"{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}|\d{{4}}[年년] ?\d{{1,2}}[月월] ?\d{{1,2}}[日일]?"
)


def _is_birth(text: str) -> bool:
    """Of somebody who may be alive. Two digits of a year are one of the last hundred."""
    years = [int(year) for year in re.findall(r"\d{4}", text)]
    return not years or 1905 <= years[0] <= 2099


BIRTHS = (
    _kind(
        "date of birth",
        "date of birth|birth date|dob|d.o.b|d.o.b.|birthday|i was born|i am born|i'm born|geburtsdatum|geburtstag|"
        "ich bin am|ich wurde am|date de naissance|je suis né|je suis née|fecha de nacimiento|nací|"
        "data di nascita|sono nato|sono nata|data de nascimento|nasci|geboortedatum|ik ben geboren|data urodzenia|"
        "urodziłem się|urodziłam się|födelsedatum|fødselsdato|doğum tarihi|doğum tarihim|datum narození",
        _DATE,
        _is_birth,
    ),
    _kind(
        "date of birth",
        "дата рождения|я родился|я родилась|出生日期|我的生日|生日是|出生于|生年月日|誕生日|생년월일|"
        "تاريخ الميلاد|जन्म तिथि",
        _DATE,
        _is_birth,
    ),
)

_NOBODY = ("0.0.0.0", "8.8.8.8", "8.8.4.4", "1.1.1.1", "1.2.3.4", "9.9.9.9")


def _is_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global and text not in _NOBODY
    except ValueError:
        return False


NETWORK_NUMBERS = (
    _kind(
        "IP address",
        "my ip|our ip|his ip|her ip|their ip|home ip|public ip|external ip|client ip|user ip|user's ip|meine ip|"
        "mon ip|mon adresse ip|mi ip|mi dirección ip",
        r"\d{1,3}(?:\.\d{1,3}){3}",
        _is_address,
    ),
)
PASSWORDS = (
    _kind(
        "password",
        "password|passwort|kennwort|passphrase|mot de passe|contraseña|senha|wachtwoord|hasło|parola|пароль|密码|密碼",
        r"(?=[^\s\"'`]{0,30}\d)[^\s\"'`<>()\[\]{}$,;=]{4,64}",
        lambda text: not re.fullmatch(r"[\d.]{1,4}|\d{4}[-/]\d\d[-/]\d\d", text),
        gap=r"(?: (?:is|was|ist|lautet|est|es|é|è|to)|是|为)?(?:[:=] ?| )[\"'`]?",
    ),
)
