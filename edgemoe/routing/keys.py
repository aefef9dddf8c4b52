"""Keys and passwords, by the marks that their makers gave them."""

from __future__ import annotations

import re
from collections.abc import Iterator

_ALONE = r"(?<![\w-])"

_KEYS = tuple(
    (mark, re.compile(pattern))
    for mark, pattern in (
        ("PRIVATE KEY", r"-----BEGIN (?:[A-Z]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"),
        ("PuTTY-User-Key-File-", r"PuTTY-User-Key-File-\d"),
        ("AKIA", r"\bAKIA[0-9A-Z]{16}\b"),
        ("ASIA", r"\bASIA[0-9A-Z]{16}\b"),
        ("gh", r"\bgh[pousr]_[A-Za-z0-9]{36,}\b"),
        ("github_pat_", r"\bgithub_pat_\w{22,}\b"),
        ("glpat-", r"\bglpat-[\w-]{20,}"),
        ("xox", r"\bxox[abeprs]-[\w-]{10,}"),
        ("xapp-", r"\bxapp-\d-[\w-]{20,}"),
        ("hooks.slack.com", r"hooks\.slack\.com/services/T\w{6,}/B\w{6,}/\w{16,}"),
        ("sk-", _ALONE + r"sk-(?:[a-z]{1,12}-){0,3}[A-Za-z0-9_]{20,}"),
        ("sk-ant-", _ALONE + r"sk-ant-[a-z0-9]{1,10}-[\w-]{20,}"),
        ("AIza", r"\bAIza[\w-]{35}"),
        ("_live_", r"\b[rs]k_live_[A-Za-z0-9]{16,}"),
        ("whsec_", r"\bwhsec_[A-Za-z0-9+/]{24,}"),
        ("hf_", r"\bhf_[A-Za-z0-9]{30,}"),
        ("gsk_", r"\bgsk_[A-Za-z0-9]{40,}"),
        ("xai-", _ALONE + r"xai-[A-Za-z0-9]{40,}"),
        ("nvapi-", _ALONE + r"nvapi-[\w-]{40,}"),
        ("npm_", r"\bnpm_[A-Za-z0-9]{36}"),
        ("pypi-", _ALONE + r"pypi-AgE[\w-]{20,}"),
        ("dop_v1_", r"\bdop_v1_[a-f0-9]{64}\b"),
        ("shpat_", r"\bshpat_[a-fA-F0-9]{32}\b"),
        ("SG.", r"\bSG\.[\w-]{16,32}\.[\w-]{32,64}"),
        ("ya29.", r"\bya29\.[\w-]{30,}"),
        (":AA", r"(?<!\w)\d{8,10}:AA[\w-]{33}(?![\w-])"),
        ("AGE-SECRET-KEY-1", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
        ("eyJ", _ALONE + r"eyJ[\w-]{10,4000}\.[\w-]{10,4000}\.[\w-]{10,4000}"),
        ("aws", r"(?i:aws_?secret\w{0,30}[\"']?\s{0,3}[=:]\s{0,3}[\"']?)[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"),
        ("AWS", r"AWS_?SECRET\w{0,30}[\"']?\s{0,3}[=:]\s{0,3}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])"),
        ("AccountKey=", r"AccountKey=[A-Za-z0-9+/]{60,100}={0,2}"),
        ("earer ", r"\b[Bb]earer (?=[\w.~+/-]{0,40}\d)[\w.~+/-]{24,}"),
        ("://", r"[a-z][a-z0-9+.-]{1,20}://[\w.%+-]{1,64}:(?=[^\s/@]{0,64}[\d!%_-])[^\s/@:]{6,64}@[\w.-]{1,64}"),
    )
)


def find_keys(text: str) -> Iterator[tuple[str, int, int]]:
    """("key", start, end) of each key of a well-known service, and of each address with a password."""
    for mark, pattern in _KEYS:
        if mark in text:
            for match in pattern.finditer(text):
                yield "key", match.start(), match.end()
