"""Personal data: what is found by its form, in any script and typography, and what only looks like it."""

from __future__ import annotations

import random
import time

import pytest

from edgemoe.routing.national_ids import NATIONAL_IDS, find_national_ids, luhn
from edgemoe.routing.privacy import CARD, EMAIL, IBAN, ID, KEY, KINDS, NAMES, PHONE, describe, find_personal_data

FOUND = {
    EMAIL: [
        '"jane doe"@example.com',
        "jane%40example.com",
        "jane@firm.zip",
        "write to jane.doe@mail.example.org please",
        "Contact: <JANE_DOE+news@EXAMPLE.CO.UK>.",
        "o'brien@firma.de",
        "jürgen@müller.de",
        "ask jane [at] mail (dot) com",
        "ｊａｎｅ＠ｍａｉｌ．ｃｏｍ",
        "ja\u200bne@ma\u00adil.com",
        "почта: иван@пример.рф",
        "x@y.io",
        "mailto:jane@example.com?subject=hi",
        "用户a1@qq.com。",
    ],
    PHONE: [
        "我的手机号是13800138000",
        "015123456789",
        "07911123456",
        "0612345678",
        "09012345678",
        "(11) 98765-4321",
        "8 (495) 123-45-67",
        "my number is 9876543210",
        "+49 171 2345678",
        "call me at 555-123-4567",
        "(415) 555-2671",
        "415.555.2671",
        "+1-415-555-2671",
        "0044 20 7946 0958",
        "020 7946 0958",
        "06 12 34 56 78",
        "06.12.34.56.78",
        "0171/2345678",
        "+86 138 0013 8000",
        "my mobile is 07911123456",
        "Tel: 4155552671",
        "WhatsApp me on 98765 43210",
        "+٤٩ ١٧١ ٢٣٤٥٦٧٨",
        "电话：13800138000",
        "+41 (0)44 668 18 00",
        "tel:+442079460958",
    ],
    CARD: [
        "4111 1111 1111 1111 123",
        "4111111111111111 12/27",
        "4111 1111 1111 1111 12/27",
        "4111.1111.1111.1111",
        "4111  1111  1111  1111",
        "4111 1111\n1111 1111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111111111111111",
        "my card, 5500005555555559, expires soon",
        "3782 822463 10005",
        "6011000990139424",
        "３５３０１１１３３３３０００００",
        "30569309025904",
        "4111\u00a01111\u00a01111\u00a01111",
        "4111‑1111‑1111‑1111",
        "2223003122003222",
    ],
    IBAN: [
        "pay invoice AB12 to DE89 3704 0044 0532 0130 00",
        "NO42 IBAN DE89370400440532013000",
        "DE89.3704.0044.0532.0130.00",
        "DE89\t3704\t0044\t0532\t0130\t00",
        "IBANDE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "GB82WEST12345698765432",
        "iban fr1420041010050500013m02606 thanks",
        "NO93 8601 1117 947",
        "pay to MT84MALT011000012345MTLCAST001S now",
        "SA03 8000 0000 6080 1016 7519",
    ],
    ID: [
        "my SSN is 123-45-6789",
        "social security number 219099999",
        "QQ is none but AB 12 34 56 C is",
        "Steuer-ID 86095742719",
        "1 84 12 76 451 089 46",
        "DNI 12345678Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "85.07.30-033.28",
        "811218-9876",
        "19811218-9876",
        "131052-308T",
        "PESEL 44051401359",
        "CPF 529.982.247-25",
        "Aadhaar 2341 2341 2346",
        "11010519491231002X",
        "756.9217.0769.85",
        "8001015009087",
        "SIN 046 454 286",
        "046-454-286",
        "BSN 111222333",
        "NHS 943 476 5919",
        "T.C. 10000000146",
        "01010750160",
    ],
    KEY: [
        "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789-AbC",
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "npm_abcdefghijklmnopqrstuvwxyz0123456789",
        "pypi-AgEIcHlwaS5vcmcCJDEyMzQ1Njc4",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "-----BEGIN RSA PRIVATE KEY-----",
        "AKIAIOSFODNN7EXAMPLE",
        "token ghp_" + "a1B2" * 9,
        "sk-proj-abcdefghijklmnopqrstuvwx",
    ],
}

NOT_FOUND = [
    "text 12345678 chars",
    "What is 00 1234 5678 in hex",
    "ISBN 9783161484100 costs 1299.00 or 1.299,00",
    "",
    "What is the capital of France?",
    "git clone git@github.com:edgemoe/edgemoe.git",
    "npm install left-pad@1.3.0",
    "import torch; y = x@w.mean + a@b.T",
    "@app.route and @dataclass(frozen=True)",
    "icon@2x.png",
    "user@host",
    "look at me (at last) dot your i",
    "3.14159265358979323846",
    "0.4111111111111111",
    "1700000000 and 1700000000000",
    "2024-05-17 10:30:00",
    "01-02-2020 and 01/02/2020 and 2020-01-02",
    "12 345 678 people in 2019, 1,234,567 in 1920",
    "192.168.100.200 and 10.0.0.1:8080",
    "550e8400-e29b-41d4-a716-446655440000",
    "ISBN 978-3-16-148410-0",
    "4111 1111 1111 1112",
    "1234 5678 9012 3456",
    "5500005555555550",
    "order 9999999999999995",
    "0000000000000000",
    "DE89 3704 0044 0532 0130 01",
    "GB82WEST1234569876543",
    "XX82WEST12345698765432",
    "000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000",
    "12345678A",
    "Y1234567A",
    "RSSMRA85T10A562T",
    "85.07.30-033.29",
    "811218-9875",
    "131052-308A",
    "529.982.247-26",
    "2341 2341 2347",
    "110105194912310021",
    "756.9217.0769.86",
    "123 456 789",
    "146 454 284 people",
    "111222333",
    "sk-learn, sk-short",
    "the sha is 9e107d9d372bb6826bd81d3542a419d6",
    "0x4111111111111111",
    "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]",
    "007 and 00 and 0800",
    "call f(1234567) with x = 1",
    "call me in 1999",
    "during the 1998-1999 season, call for the text of 2000-2001",
    "pages 100-200, lines 123-4567",
    "12:34:56.789012",
    "Version 10.15.7.1234 of 2021",
    "the text has 1000000 words",
]


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
]


@pytest.mark.parametrize("text", [piece * (200_000 // len(piece)) for piece in LONG], ids=lambda t: t[:6])
def test_any_text_takes_bounded_time(text: str) -> None:
    begin = time.process_time()
    find_personal_data(text)
    assert time.process_time() - begin < 60  # a search that backtracks would take hours
