"""The prompt router's features: the native extractor against plain Python, on random and on nasty text."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edgemoe import EdgeMoEError, _native
from edgemoe.routing.features import HEAD_CHARACTERS, TAIL_CHARACTERS, Hashing, corpus_of, normalise
from reference_features import features

NASTY = {
    "empty": "",
    "spaces": " \t\n\u00a0\u2003\u2028",
    "nul": "a\x00b\x00",
    "controls": "".join(map(chr, range(32))) + "\x7f",
    "marks": '!?.,;:-(){}[]<>=+*/\\^_|&%$#@~`"',
    "emoji": "😀😃🧑‍⚖️🏴󠁧󠁢󠁥󠁮󠁧󠁿❤️",
    "combining": "e\u0301e\u0301 a\u0328 \u0301\u0301\u0301",
    "ligatures": "ﬁnance ﷺ ǆ ㎏ ①",
    "folding": "STRASSE straße İstanbul ΣΊΣΥΦΟΣ ﬀ",
    "chinese": "我可以退房租押金吗？",
    "japanese": "税金について教えてください。カタカナ",
    "korean": "의료 보험에 대해 알려 주세요",
    "thai": "ฉันควรไปหาหมอไหม",
    "arabic": "ما هي حقوقي كمستأجر؟",
    "hebrew": "מה הזכויות שלי כשוכר",
    "hindi": "मुझे डॉक्टर को दिखाना चाहिए",
    "russian": "Как вернуть налог?",
    "surrogate": "half \ud83d of a pair",
    "private": "\ue000\uf8ff\U000f0000\U0010ffff",
    "one word": "x" * 5000,
    "code": "def f(x):\n    return {k: v[1:] for k, v in x.items() if k != 'a_b'}\n",
    "digits": "4111 1111 1111 1111, 3.14159, 0x1F, ١٢٣",
}


def compare(text: str, hashing: Hashing) -> None:
    text = normalise(text)
    words, grams, dense = hashing.extractor().extract(text)
    expected = features(text, hashing.buckets, hashing.shortest, hashing.longest)
    assert (words.tolist(), grams.tolist(), dense.tolist()) == expected


@pytest.mark.parametrize("name", NASTY)
def test_nasty_text_is_read_as_the_reference_reads_it(name: str) -> None:
    compare(NASTY[name], Hashing())


@pytest.mark.parametrize("seed", range(8))
def test_random_text_is_read_as_the_reference_reads_it(seed: int) -> None:
    draw = random.Random(seed)
    ranges = [(32, 126), (32, 126), (0, 0x2FF), (0x370, 0x1FFF), (0x2000, 0x33FF), (0x3400, 0xD7FF), (0xE000, 0x10FFFF)]
    text = ""
    for _ in range(400):
        low, high = draw.choice(ranges)
        text += "".join(chr(draw.randint(low, high)) for _ in range(draw.randint(1, 6))) + draw.choice(["", " "])
    compare(text, Hashing(draw.choice([2, 1000, 1 << 17]), *draw.choice([(3, 5), (1, 8), (2, 2)])))


def test_every_assigned_plane_is_read() -> None:
    characters = [chr(c) for c in range(0, 0x110000, 37) if not 0xD800 <= c < 0xE000]
    for begin in range(0, len(characters), 4000):
        compare(" ".join(characters[begin : begin + 4000]), Hashing())


def test_a_corpus_has_the_features_of_each_text() -> None:
    texts = [*NASTY.values()]
    corpus = corpus_of(texts, Hashing())
    assert len(corpus) == len(texts)
    extractor = Hashing().extractor()
    for t, text in enumerate(texts):
        words, grams, dense = extractor.extract(normalise(text))
        assert corpus.ids[corpus.bounds[2 * t] : corpus.bounds[2 * t + 1]].tolist() == words.tolist()
        assert corpus.ids[corpus.bounds[2 * t + 1] : corpus.bounds[2 * t + 2]].tolist() == grams.tolist()
        assert corpus.dense[t].tolist() == dense.tolist()


def test_some_texts_of_a_corpus_can_be_taken_in_any_order() -> None:
    texts = ["one two", "", "three four five", "six"]
    rows = np.array([3, 0, 0, 1])
    taken, again = corpus_of(texts, Hashing()).take(rows), corpus_of([texts[r] for r in rows], Hashing())
    assert taken.ids.tolist() == again.ids.tolist()
    assert taken.bounds.tolist() == again.bounds.tolist()
    assert taken.dense.tolist() == again.dense.tolist()


def test_forms_of_the_same_text_are_the_same() -> None:
    assert normalise("ＴＡＸ Ｌａｗ") == normalise("tax law")
    assert normalise("caf\u00e9") == normalise("CAFE\u0301")
    assert normalise("Straße") == "strasse"


def test_a_long_prompt_is_read_at_both_ends() -> None:
    text = "a" * HEAD_CHARACTERS + "b" * 1_000_000 + "c" * TAIL_CHARACTERS
    assert normalise(text) == "a" * HEAD_CHARACTERS + "\n" + "c" * TAIL_CHARACTERS


def test_a_megabyte_has_no_more_features_than_what_is_read_of_it() -> None:
    extractor = Hashing().extractor()
    for text in ("a", "ab ", "\ufdfa", "東", "x \U0001f600"):  # U+FDFA becomes 18 characters
        words, grams, _ = extractor.extract(normalise(text * (1_000_000 // len(text))))
        assert len(words) + len(grams) <= 18 * 4 * (HEAD_CHARACTERS + TAIL_CHARACTERS)


@pytest.mark.parametrize("numbers", [(1, 3, 5), (1 << 25, 3, 5), (1000, 0, 5), (1000, 5, 3), (1000, 3, 9)])
def test_hashing_out_of_range_is_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(EdgeMoEError):
        Hashing(*numbers).extractor()


def test_text_that_is_not_normalised_may_hold_half_a_pair() -> None:
    with pytest.raises(EdgeMoEError, match="surrogate"):
        Hashing().extractor().extract("\ud83d")


def test_a_corpus_that_does_not_fit_together_is_refused() -> None:
    ids, targets, drawn = np.zeros(4, np.int32), np.ones((1, 2), np.float32), np.ones(1)
    options = dict(buckets=8, dim=2, rectified=True, passes=1.0, rate=0.1, dropped=0.0, dropped_units=0.0)
    options |= dict(gate_rate=0.1, gate_limit=1.0, seed=1)
    for bounds, many in (([0, 2], ids), ([0, 2, 9], ids), ([0, 3, 2], ids), ([0, 2, 4], ids + 8), ([0, 2, 4], ids - 1)):
        with pytest.raises(EdgeMoEError):
            _native.train_head(many, np.array(bounds, np.int64), targets, drawn, **options)
