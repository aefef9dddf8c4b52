"""Personal data: what is found by its form, in any script and typography, and what only looks like it."""

from __future__ import annotations

import random
import time

import pytest

from edgemoe.routing.check_digits import luhn
from edgemoe.routing.national_ids import NATIONAL_IDS, find_national_ids
from edgemoe.routing.privacy import (
    IBAN,
    ID,
    KINDS,
    NAMES,
    PHONE,
    describe,
    find_personal_data,
)
from personal_data import FOUND, NOT_FOUND


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_personal_data_is_found(kind: str, text: str) -> None:
    assert [finding.kind for finding in find_personal_data(text)] == [kind]
    assert kind in {f.kind for f in find_personal_data(f"Hello,\n{text}\nand then what?")}


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_is_not(text: str) -> None:
    assert find_personal_data(text) == []


def test_every_national_number_is_tried() -> None:
    tried = {name for text in FOUND[ID] for name, _, _ in find_national_ids(text)}
    untried = {kind.name for kind in NATIONAL_IDS} - tried
    assert untried == {"Korean resident number"}  # has had no check digit since 2020
    assert [name for name, _, _ in find_national_ids("920101-1234567")] == ["Korean resident number"]
    assert not list(find_national_ids("921301-1234567"))


def test_one_wrong_digit_of_a_card_is_noticed() -> None:
    number = "4111111111111111"
    for place in range(len(number)):
        for digit in set("0123456789") - {number[place]}:
            assert not luhn(number[:place] + digit + number[place + 1 :])


def test_several_kinds_and_where_they_stand() -> None:
    text = "I am jane@example.com, card 4111 1111 1111 1111, +49 171 2345678."
    found = find_personal_data(text)
    assert [text[f.start : f.end] for f in found] == ["jane@example.com", "4111 1111 1111 1111", "+49 171 2345678"]
    assert describe(f.kind for f in found) == "an e-mail address, a phone number and a card number"
    assert find_personal_data(text, {IBAN, PHONE}) == found[2:]
    assert set(NAMES) == set(KINDS)


def test_few_random_numbers_are_taken_for_personal_data() -> None:
    draw = random.Random(5)
    for length, most in ((6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 0.08), (12, 0), (13, 0.02), (16, 0.05)):
        numbers = [str(draw.randrange(10 ** (length - 1), 10**length)) for _ in range(3000)]
        assert sum(bool(find_personal_data(f"There are {n} of them.")) for n in numbers) <= most * len(numbers)


LONG = [
    "a",
    "1",
    "1 ",
    "a@",
    "a.",
    "DE89 ",
    "+1-",
    "😀",
    "(0",
    "call ",
    "x [at] ",
    "\x00\xff",
    "٣",
    "call 1",
    "0 0",
    "sk-a-",
    "eyJ-",
    "4111 ",
    "DE89.",
    '"a ',
    "DE 8",
    "passport a ",
    "passporta",
    "date of birth 1",
    "12 Baker ",
    "12 A Street a\n",
    "1 rue a ",
    "Calle a ",
    "a-straße 1 ",
    "2001:",
    "00:11:",
    "my ip ",
    "password is ",
    "https://a:",
    "account number 1 ",
    "+1 / ",
    "一",
    "A1234567<",
    "SG.a",
    "Bearer a",
    "licence plate A-",
    "123456/",
    "a@b.com ",
    "4111 1111 1111 1111, ",
    "123-45-6789 ",
]


@pytest.mark.parametrize("text", [piece * (200_000 // len(piece)) for piece in LONG], ids=lambda t: t[:6])
def test_any_text_takes_bounded_time(text: str) -> None:
    begin = time.process_time()
    find_personal_data(text)
    assert time.process_time() - begin < 60  # a search that backtracks would take hours
