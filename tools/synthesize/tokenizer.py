"""Tokenizer metadata: copied from another GGUF, or a byte-level BPE learned on the spot."""

import heapq
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter, TokenType

Pair = tuple[str, str]

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Merges are learned from this when no text is given; llama.cpp refuses a byte-level BPE without any.
SAMPLE = (
    "The cat sat on the mat and the dog ran to the door. There was a man who had the best horse in the land, and he "
    "went with it to the other side of the hill, where the water is. She said that they were there in the morning, "
    "but not one of them could see the bird that was singing over the trees. What is this thing, and where is that?"
)
# More merges than this say nothing more about a text of a few MB and only take time.
MOST_MERGES = 16000
# Words as byte-level BPE sees them: with their leading space, digits and punctuation apart.
WORD = re.compile(r" ?[^\W\d_]+|\d| ?[^\s\w]+|\s+(?!\S)|\s+")


@dataclass
class Tokenizer:
    """GGUF metadata of a tokenizer: key to (value, type, element type)."""

    tokens: list[str]
    types: list[int]
    metadata: dict[str, tuple[object, GGUFValueType, GGUFValueType | None]] = field(default_factory=dict)

    def add_to(self, writer: GGUFWriter) -> None:
        """Write the metadata with a GGUFWriter."""
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        for key, (value, type_, element) in self.metadata.items():
            writer.add_key_value(key, value, type_, element)

    def pad(self, size: int) -> None:
        """Grow to `size` tokens with unused entries."""
        if size < len(self.tokens):
            raise ValueError(f"a vocabulary of {size} is asked for, but the tokenizer has {len(self.tokens)} tokens")
        missing = range(len(self.tokens), size)
        self.tokens += [f"[PAD{index}]" for index in missing]
        self.types += [int(TokenType.UNUSED)] * len(missing)


def copied(path: Path) -> Tokenizer:
    """The tokenizer of the GGUF file `path`, vocabulary-only or a whole model."""
    fields = {name: f for name, f in GGUFReader(path).fields.items() if name.startswith("tokenizer.")}
    if "tokenizer.ggml.tokens" not in fields:
        raise ValueError(f"{path} has no tokenizer.ggml.tokens: it is no file to copy a vocabulary from")
    tokens = fields.pop("tokenizer.ggml.tokens").contents()
    types = fields.pop("tokenizer.ggml.token_type", None)
    normal = [int(TokenType.NORMAL)] * len(tokens)
    tokenizer = Tokenizer(tokens, types.contents() if types else normal)
    for key, entry in fields.items():
        element = entry.types[-1] if entry.types[0] == GGUFValueType.ARRAY else None
        tokenizer.metadata[key] = (entry.contents(), entry.types[0], element)
    return tokenizer


def learned(text: str | None, size: int) -> Tokenizer:
    """A byte-level BPE of at most `size` tokens, its merges learned from `text`."""
    alphabet = byte_alphabet()
    room = size - len(alphabet) - len(SPECIALS)
    if room < 1:
        raise ValueError(
            f"a vocabulary of {size} is too small: bytes and special tokens take {size - room}, merges at least 1"
        )
    merges = learn_merges(text or SAMPLE, min(room, MOST_MERGES))
    tokens = [*alphabet, *(left + right for left, right in merges), *SPECIALS]
    types = [int(TokenType.NORMAL)] * (len(tokens) - len(SPECIALS)) + [int(TokenType.CONTROL)] * len(SPECIALS)
    end, end_of_turn = tokens.index(SPECIALS[0]), tokens.index(SPECIALS[2])
    string, number = GGUFValueType.STRING, GGUFValueType.UINT32
    metadata = {
        "tokenizer.ggml.model": ("gpt2", string, None),
        "tokenizer.ggml.pre": ("qwen2", string, None),
        "tokenizer.ggml.merges": ([f"{a} {b}" for a, b in merges], GGUFValueType.ARRAY, string),
        "tokenizer.ggml.bos_token_id": (end, number, None),
        "tokenizer.ggml.eos_token_id": (end_of_turn, number, None),
        "tokenizer.ggml.padding_token_id": (end, number, None),
        "tokenizer.ggml.add_bos_token": (False, GGUFValueType.BOOL, None),
        "tokenizer.chat_template": (CHATML, string, None),
    }
    return Tokenizer(tokens, types, metadata)


def byte_alphabet() -> list[str]:
    """The printable character that byte-level BPE writes for every byte 0..255 (GPT-2's table)."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(stand_ins)) for byte in range(256)]


def learn_merges(text: str, count: int) -> list[Pair]:
    """At most `count` merges, most frequent pair first, ties in alphabetical order."""
    alphabet = byte_alphabet()
    frequency = Counter(WORD.findall(text))
    words = [[alphabet[byte] for byte in word.encode()] for word in frequency]
    weights = list(frequency.values())
    pairs: Counter[Pair] = Counter()
    homes: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, symbols in enumerate(words):
        _count_pairs(symbols, index, weights[index], pairs, homes)
    heap = [(-n, pair) for pair, n in pairs.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    made = set(alphabet)
    while heap and len(merges) < count:
        negative, pair = heapq.heappop(heap)
        if pairs[pair] != -negative:  # counted anew since; the current count has its own entry
            continue
        if -negative < 2:
            break
        changed = _merge(pair, words, weights, pairs, homes)
        for other in sorted(changed):
            if pairs[other] > 0:
                heapq.heappush(heap, (-pairs[other], other))
        if "".join(pair) not in made:  # two merges may spell one token: it can be listed only once
            made.add("".join(pair))
            merges.append(pair)
    return merges


def _count_pairs(
    symbols: list[str], index: int, weight: int, pairs: Counter[Pair], homes: defaultdict[Pair, set[int]]
) -> list[Pair]:
    """Add `weight` for every adjacent pair of word `index`; returns the pairs."""
    adjacent = list(pairwise(symbols))
    for pair in adjacent:
        pairs[pair] += weight
        homes[pair].add(index)
    return adjacent


def _merge(
    pair: Pair, words: list[list[str]], weights: list[int], pairs: Counter[Pair], homes: defaultdict[Pair, set[int]]
) -> set[Pair]:
    """Join `pair` wherever it stands; returns the pairs whose counts changed."""
    changed: set[Pair] = set()
    for index in sorted(homes.pop(pair)):
        symbols = words[index]
        for old in pairwise(symbols):
            pairs[old] -= weights[index]
            changed.add(old)
        joined, position = [], 0
        while position < len(symbols):
            here = tuple(symbols[position : position + 2]) == pair
            joined.append("".join(pair) if here else symbols[position])
            position += 2 if here else 1
        words[index] = joined
        changed.update(_count_pairs(joined, index, weights[index], pairs, homes))
    changed.discard(pair)
    return changed
