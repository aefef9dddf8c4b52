"""Labelled prompts in JSON lines."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash

from edgemoe.errors import EdgeMoEError
from edgemoe.routing.features import normalise

TRAIN, DEV, TEST = "train", "dev", "test"
_SPLITS = (TRAIN, DEV, TEST)
_KEYS = ("text", "label", "labels", "source", "split", "judged", "weak", "strong", "scores")


@dataclass(frozen=True)
class Row:
    """A prompt; `labels` has a text (a class) or a number from 0 to 1 (a probability of yes) for some heads.

    One that is not `judged` is trained on, but thresholds are not tuned on it. `weak` and `strong` say how good
    (0 to 1) two models' answers were, `scores` those of any number of models (None where nobody knows); they are
    measured by, not learned from.
    """

    text: str
    labels: Mapping[str, str | float]
    source: str = ""
    split: str = TRAIN
    judged: bool = True
    weak: float | None = None
    strong: float | None = None
    scores: tuple[float | None, ...] = ()


def read_rows(paths: Iterable[str | Path], head: str) -> list[Row]:
    """Rows of JSON lines with `text`, and `label` (of `head`) or `labels` (an object: head to label).

    `source` says where a row is from, `judged` may be false, `weak` and `strong` are numbers from 0 to 1, `scores` is
    a list of such, `split` is train, dev or test; without one, a tenth of the texts is dev, by a hash of the normalised
    text. Other keys are the user's own. Raises EdgeMoEError, with its number, for a line that is none of this, or has a
    key that is nearly one of these.
    """
    rows = []
    for path in map(Path, paths):
        try:
            lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: U+2028 is no end of a line
        except OSError as error:
            raise EdgeMoEError(f"{path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise EdgeMoEError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_row(line, head, f"{path}, line {number}"))
    return rows


def _row(line: str, head: str, where: str) -> Row:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise EdgeMoEError(f"{where} is no JSON: {error}") from error
    _check_keys(value, where)
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str):
        raise EdgeMoEError(f'{where} has no text: write {{"text": ..., "label": ...}}')
    labels = value.get("labels", {head: value["label"]} if "label" in value else {})
    if not isinstance(labels, dict):
        raise EdgeMoEError(f"{where}: labels must be an object of heads and their labels")
    for name, label in labels.items():
        if not _is_label(label):
            raise EdgeMoEError(f"{where}: the label {label!r} of {name} is neither text nor a number from 0 to 1")
    split = value.get("split") or (DEV if _tenth(text) else TRAIN)
    if split not in _SPLITS:
        raise EdgeMoEError(f"{where}: the split {split!r} is none of {', '.join(_SPLITS)}")
    pair = [value.get("weak"), value.get("strong")]
    if any(score is not None and not _is_share(score) for score in pair):
        raise EdgeMoEError(f"{where}: weak and strong must be numbers from 0 to 1, not {pair[0]!r} and {pair[1]!r}")
    scores = value.get("scores", [])
    if not isinstance(scores, list) or any(score is not None and not _is_share(score) for score in scores):
        raise EdgeMoEError(f"{where}: scores must be a list of numbers from 0 to 1")
    judged = bool(value.get("judged", True))
    return Row(text, labels, str(value.get("source", "")), split, judged, pair[0], pair[1], tuple(scores))


def _check_keys(value: object, where: str) -> None:
    """Raises EdgeMoEError for a key that is nearly one that is known: what else a line has is the user's own."""
    for key in set(value) - set(_KEYS) if isinstance(value, dict) else ():
        near = difflib.get_close_matches(key.lower(), _KEYS, n=1, cutoff=0.8)
        if near and abs(len(near[0]) - len(key)) < 2:  # and not one that begins like it, such as judged_by
            raise EdgeMoEError(f"{where}: there is no key {key!r}: did you mean {near[0]!r}?")


def _is_label(label: object) -> bool:
    return _is_share(label) or (isinstance(label, str) and 0 < len(label) <= 100)


def _is_share(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= 1  # true and false are 1 and 0


def _tenth(text: str) -> bool:
    return xxhash.xxh3_64_intdigest(" ".join(normalise(text).split()).encode()) % 10 == 0
