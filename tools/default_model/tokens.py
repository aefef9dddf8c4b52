"""Tokenizer, and stories and dialogues as windows of tokens."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from default_model.dialogues import Dialogue, Writer
from default_model.stories import END, form_of

SPECIAL = (END, "<|im_start|>", "<|im_end|>")
# The splitting rule that llama.cpp calls qwen2.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
EMPHASIS = 3  # weight of the loss on words that were asked for


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE whose first entries are SPECIAL."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Encoder:
    """Documents as token ids with a weight for the loss on each: 0 for what the user says."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, dialogue: Dialogue) -> tuple[list[int], list[int]]:
        """ids and weights, of equal length; a weight belongs to the token itself, as a target."""
        ids: list[int] = []
        weights: list[int] = []

        def add(text: str, weight: int, wanted: tuple[str, ...] = ()) -> None:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            spans = [found.span() for word in wanted for found in form_of(word).finditer(text)]
            ids.extend(encoding.ids)
            for start, stop in encoding.offsets:
                hit = any(start < last and first < stop for first, last in spans)
                weights.append(EMPHASIS * weight if hit else weight)

        if dialogue.plain:
            add(END, 0)
            add(dialogue.turns[0].answer, 1)
            add(END, 1)
            return ids, weights
        if dialogue.system is not None:
            add(f"<|im_start|>system\n{dialogue.system}<|im_end|>\n", 0)
        for turn in dialogue.turns:
            add(f"<|im_start|>user\n{turn.request}<|im_end|>\n<|im_start|>assistant\n", 0)
            add(turn.answer + "<|im_end|>", 1, turn.wanted)
            add("\n", 0)
        return ids, weights


def documents(writer: Writer, rng: random.Random, talk: float) -> Iterator[Dialogue]:
    """Without end: passes over the stories, each plain or, with chance `talk`, in a dialogue."""
    while True:
        order = list(writer.stories)
        rng.shuffle(order)
        for story in order:
            yield writer.draw(story) if rng.random() < talk else writer.plain(story)


def pack_windows(found: Iterator[tuple[list[int], list[int]]], count: int, length: int) -> dict[str, np.ndarray]:
    """Whole documents side by side in windows: ids, weights (uint8) and document numbers (uint8), each [count, length].

    The longest of a few waiting documents that still fits comes next; what no document fills is padded with weight
    0.
    """
    ids = np.zeros((count, length), np.uint16)
    weights = np.zeros((count, length), np.uint8)
    numbers = np.zeros((count, length), np.uint8)
    waiting: list[tuple[list[int], list[int]]] = []
    for row in range(count):
        at, number = 0, 0
        while True:
            while len(waiting) < 48:
                document = next(found)
                if len(document[0]) <= length:
                    waiting.append(document)
            fitting = [place for place, (tokens, _) in enumerate(waiting) if len(tokens) <= length - at]
            if not fitting:
                break
            place = fitting[0] if at < length // 2 else max(fitting, key=lambda one: len(waiting[one][0]))
            tokens, weight = waiting.pop(place)
            number += 1
            end = at + len(tokens)
            ids[row, at:end], weights[row, at:end], numbers[row, at:end] = tokens, weight, number
            at = end
    return {"ids": ids, "weights": weights, "numbers": numbers}


def write_windows(
    path: Path, writer: Writer, encoder: Encoder, rng: random.Random, *, count: int, length: int, late: float
) -> None:
    """Windows for a whole run: 30% of the documents are dialogues, and 70% after the share `late` of the run."""
    first = round(count * late)
    parts = []
    for windows, talk in ((first, 0.3), (count - first, 0.7)):
        parts.append(pack_windows(map(encoder.encode, documents(writer, rng, talk)), windows, length))
    np.savez(path, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
