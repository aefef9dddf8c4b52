"""Stories out of the files in which public repositories keep samples of TinyStories, each in a form of its own."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable

END = "<|endoftext|>"
_GPT2_END = 50256
_JOINED = re.compile(r"""(?<=[a-z][.!?])(?=[A-Z])|(?<=[a-z][.!?]")(?=[A-Z])""")
_LONE_BREAK = re.compile(r"(?<!\n)\n(?!\n)")
_PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-"}) | {
    0xA0: " ",
    0x2026: "...",
    0x2028: "\n",
}
# UTF-8 that was read once as Windows-1252, as in many copies of the collection; the longest first.
_MISREAD = {
    "â€™": "'",
    "â€˜": "'",
    "â€œ": '"',
    "â€\x9d": '"',
    "â€“": "-",
    "â€”": "-",
    "â€¦": "...",
    "â€": '"',
    "Â": "",
}


def split(data: bytes, form: str, decode: Callable[[bytes], str]) -> list[str]:
    """Stories of a file, uncleaned. Those cut off at the ends of a file without limits are left out.

    form: "jsonl", "csv", "texts" (JSON with a list), "nul" (a zero byte between stories), "eot" (END between them),
    "single" (one line break between stories, two between paragraphs), or "u16": token numbers of GPT-2, which `decode`
    turns into text.
    """
    text = decode(data) if form == "u16" else data.decode("utf-8", "replace").replace("\r\n", "\n")
    if form in ("u16", "eot"):
        parts = text.split(END) if END in text else _JOINED.split(text)
        return parts[1:-1] if len(parts) > 2 else parts
    if form == "jsonl":
        return [_text_of(json.loads(line)) for line in text.splitlines() if line.strip()]
    if form == "csv":
        csv.field_size_limit(1 << 30)
        return [row.get("text") or "" for row in csv.DictReader(io.StringIO(text))]
    if form == "texts":
        return list(json.loads(text)["texts"])
    if form == "nul":
        return text.split("\0")
    if form == "single":
        return _LONE_BREAK.split(text)
    raise ValueError(f"{form} is no form of samples")


def _text_of(record: dict[str, str]) -> str:
    return record.get("text") or record.get("story") or ""


def gpt2_decoder(vocabulary: bytes) -> Callable[[bytes], str]:
    """Turns token numbers of 16 bits into text. vocabulary: GPT-2's vocab.json, whose tokens have a character for each
    byte: printable ones stand for themselves, the others follow from 256 on (Radford et al., 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    byte_of = {chr(byte): byte for byte in shown} | {chr(256 + n): byte for n, byte in enumerate(hidden)}
    tokens = {
        number: END.encode() if token == END else bytes(byte_of[char] for char in token)
        for token, number in json.loads(vocabulary).items()
    }
    tokens.setdefault(_GPT2_END, END.encode())

    def decode(data: bytes) -> str:
        numbers = memoryview(data[: len(data) // 2 * 2]).cast("H")
        return b"".join(tokens.get(number, b"\xff") for number in numbers).decode("utf-8", "replace")

    return decode


def clean(text: str) -> str:
    """Plain quotes and dashes, one line break between paragraphs, no spaces before marks."""
    for wrong, right in _MISREAD.items():
        text = text.replace(wrong, right)
    text = text.translate(_PLAIN).replace("``", '"').replace("\\n", "\n")
    text = re.sub(r"[ \t]+", " ", text)
    text = "\n".join(line.strip() for line in text.split("\n") if line.strip())
    return re.sub(r" +([.,!?])", r"\1", text).strip()


def fault(text: str) -> str | None:
    """What is wrong with a cleaned text, if anything."""
    words = re.findall(r"[a-z']+", text.lower())
    if not 200 <= len(text) <= 4500 or len(words) < 40:
        return "length"
    if not re.search(r"[.!?][\"')]*$", text):
        return "unfinished"
    if not re.match(r"[\"']?[A-Z]", text):
        return "no beginning"
    if not text.isascii() or re.search(r"[<>\[\]{}|_#*=~^@\\]|https?:|www\.", text):
        return "characters"
    if text.count('"') % 2:
        return "quotes"
    if len(set(words)) / len(words) < 0.25:
        return "repetition"
    return "capitals" if sum(char.isupper() for char in text) / len(text) > 0.08 else None
