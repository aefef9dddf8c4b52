"""The router's features in plain Python, written from docs/router.md and not from the native code."""

from __future__ import annotations

MASK = 0xFFFFFFFF
CODE_MARKS = set("{}[]()<>=+*/\\^_|&%$#;")


def kind(c: int) -> str:
    if c < 0x80:
        if chr(c).isalnum() or chr(c) in "_'":
            return "letter"
        return "space" if c <= 0x20 else "mark"
    if c < 0xC0 or c in (0xD7, 0xF7):
        return "space" if c in (0x85, 0xA0) else "mark"
    for first, last, found in (
        (0x2000, 0x200B, "space"),
        (0x2028, 0x2029, "space"),
        (0x2000, 0x206F, "mark"),
        (0x2070, 0x2BFF, "alone"),
        (0x3000, 0x303F, "mark"),
        (0xFE00, 0xFE0F, "mark"),
        (0x3040, 0x30FF, "alone"),
        (0x3400, 0x9FFF, "alone"),
        (0xF900, 0xFAFF, "alone"),
        (0x1F000, 0x1FAFF, "alone"),
        (0x20000, 0x3FFFF, "alone"),
    ):
        if first <= c <= last:
            return found
    return "letter"


def words_of(text: str) -> list[str]:
    words: list[str] = []
    open_word = False
    for character in text:
        found = kind(ord(character))
        if found == "letter" and open_word:
            words[-1] += character
        elif found in ("letter", "alone"):
            words.append(character)
        open_word = found == "letter"
    return words


def mix(h: int) -> int:
    h = (h ^ h >> 16) * 0x85EBCA6B & MASK
    h = (h ^ h >> 13) * 0xC2B2AE35 & MASK
    return h ^ h >> 16


def fnv(text: str, seed: int) -> int:
    for character in text:
        seed = (seed ^ ord(character)) * 16777619 & MASK
    return seed


def bucket(h: int, buckets: int) -> int:
    return 1 + (mix(h & MASK) * (buckets - 1) >> 32)


def features(text: str, buckets: int, shortest: int, longest: int) -> tuple[list[int], list[int], list[int]]:
    """(words, n-grams, dense) of a normalised text."""
    digits = sum("0" <= c <= "9" for c in text)
    marks = sum(c in CODE_MARKS for c in text)
    script = sum(ord(c) >= 0x80 and kind(ord(c)) in ("letter", "alone") for c in text)
    same = "".join("0" if "0" <= c <= "9" else c for c in text)
    words, grams = [0], [0]
    for word in words_of(same):
        words.append(bucket(fnv(word, 2166136261), buckets))
        marked = f"<{word}>"
        for begin in range(len(marked)):
            for n in range(shortest, longest + 1):
                if begin + n <= len(marked) and n < len(marked):
                    grams.append(bucket(fnv(marked[begin : begin + n], 0x9E3779B9) + n, buckets))
    n = len(text)
    size = ((n + 1) ** 16).bit_length() - 1  # the whole part of 16 log2(n + 1)
    return words, grams, [size, *(255 * count // n if n else 0 for count in (digits, marks, script))]
