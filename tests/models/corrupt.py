"""Broken variants of a good GGUF file."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from .rawgguf import ARRAY, STRING, UINT32, RawGguf, RawKey, read

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8

Edit = Callable[[RawGguf], object]


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 32)


# Whole files, made from the good one.
_FILES: dict[str, Callable[[RawGguf], bytes]] = {
    "empty": lambda g: b"",
    "random-bytes": lambda g: random.Random(0).randbytes(4096),
    "png": lambda g: PNG,
    "magic-only": lambda g: b"GGUF",
    "truncated-counts": lambda g: g.header()[:18],
    "truncated-metadata": lambda g: g.header()[:200],
    "truncated-tensor-infos": lambda g: g.header()[:-100],
    "truncated-before-data": lambda g: _pad(g.header()),
    "truncated-data": lambda g: g.build()[: -len(g.data) // 4],
    "truncated-last-tensor": lambda g: g.build()[:-33],  # more than the padding at the end
}


def _set(suffix: str, value: int) -> Edit:
    return lambda g: g.set_uint32(suffix, value)


def _value(suffix: str, type_: int, value: bytes) -> Edit:
    return lambda g: g.key(suffix).__dict__.update(type=type_, value=value)


def _field(**fields: object) -> Edit:
    return lambda g: g.__dict__.update(fields)


def _tensor(suffix: str, **fields: object) -> Edit:
    return lambda g: g.tensor(suffix).__dict__.update(fields)


def _add_key(name: bytes, type_: int, value: bytes) -> Edit:
    return lambda g: g.keys.append(RawKey(name, type_, value))


def _drop_key(suffix: str) -> Edit:
    return lambda g: g.keys.remove(g.key(suffix))


def _alignment(value: int) -> Edit:
    return _add_key(b"general.alignment", UINT32, struct.pack("<I", value))


def _more_counts(g: RawGguf, *, keys: int = 0, tensors: int = 0) -> None:
    g.n_keys, g.n_tensors = len(g.keys) + keys, len(g.tensors) + tensors


def _offset_of(new: Callable[[RawGguf, int], int]) -> Edit:
    """Move the data of the second tensor."""
    return lambda g: g.tensors[1].__dict__.update(offset=new(g, g.tensors[1].offset))


# Changes of single fields. The good file must be a Mixture-of-Experts model in one part.
_EDITS: dict[str, Edit] = {
    "swapped-magic": _field(magic=b"FUGG"),
    "version-0": _field(version=0),
    "version-1": _field(version=1),
    "version-99": _field(version=99),
    "big-endian-version": _field(version=3 << 24),
    "key-count-negative": _field(n_keys=2**64 - 1),
    "key-count-absurd": _field(n_keys=2**40),
    "key-count-one-more": lambda g: _more_counts(g, keys=1),
    "key-count-one-less": lambda g: _more_counts(g, keys=-1),
    "tensor-count-negative": _field(n_tensors=2**64 - 1),
    "tensor-count-absurd": _field(n_tensors=2**40),
    "tensor-count-one-more": lambda g: _more_counts(g, tensors=1),
    "key-length-absurd": lambda g: g.keys[1].__dict__.update(name_length=2**62),
    "key-empty": lambda g: g.keys[1].__dict__.update(name=b""),
    "key-twice": lambda g: g.keys.append(g.keys[1]),
    "key-twice-and-long": lambda g: g.keys.extend(2 * [RawKey(b"k" * 100_000, UINT32, b"\0\0\0\0")]),
    "key-type-unknown": _value("general.name", 99, b"\0" * 8),
    "key-invalid-utf8": _add_key(b"general.\xff\xfe", UINT32, b"\0\0\0\0"),
    "string-length-absurd": _value("general.name", STRING, struct.pack("<Q", 2**62) + b"x"),
    "string-length-beyond-end": _value("general.name", STRING, struct.pack("<Q", 2**31) + b"x"),
    "array-length-absurd": _value("ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 2**60)),
    "array-length-overflow": _value("ggml.token_type", ARRAY, struct.pack("<IQ", UINT32, 2**62)),
    "array-length-2^30": _value("ggml.token_type", ARRAY, struct.pack("<IQ", UINT32, 2**30)),
    "array-of-arrays": _value("ggml.token_type", ARRAY, struct.pack("<IQIQ", ARRAY, 1, UINT32, 0)),
    "alignment-0": _alignment(0),
    "alignment-3": _alignment(3),
    "alignment-2^31": _alignment(2**31),
    "alignment-string": _add_key(b"general.alignment", STRING, _string(b"32")),
    "offset-beyond-end": _offset_of(lambda g, offset: len(g.data) * 2 // 32 * 32),
    "offset-overlaps": _offset_of(lambda g, offset: 0),
    "offset-overflow": _offset_of(lambda g, offset: 2**64 - 32),
    "offset-misaligned": _offset_of(lambda g, offset: offset + 1),
    "dimension-zero": _tensor("token_embd.weight", shape=[0, 0]),
    "dimension-overflow": _tensor("token_embd.weight", shape=[2**32, 2**32]),
    "dimension-negative": _tensor("token_embd.weight", shape=[2**63, 1]),
    "dimension-count-5": _tensor("token_embd.weight", shape=[2, 2, 2, 2, 2]),
    "dimension-count-absurd": _tensor("token_embd.weight", n_dims=2**31),
    "dimension-too-small": lambda g: g.tensor("token_embd.weight").shape.__setitem__(1, 3),
    "type-unknown": _tensor("token_embd.weight", type=999),
    "type-negative": _tensor("token_embd.weight", type=2**32 - 1),
    "type-removed": _tensor("token_embd.weight", type=4),
    "type-of-other-size": _tensor("token_embd.weight", type=0),
    "tensor-name-length-absurd": _tensor("token_embd.weight", name_length=2**62),
    "tensor-name-too-long": _tensor("token_embd.weight", name=b"x" * 200),
    "tensor-name-empty": _tensor("token_embd.weight", name=b""),
    "tensor-name-nul": _tensor("token_embd.weight", name=b"token_embd.wei\0ght"),
    "tensor-name-invalid-utf8": _tensor("token_embd.weight", name=b"token_embd.\xff\xfe"),
    "tensor-twice": lambda g: g.tensors[2].__dict__.update(name=g.tensors[1].name),
    "tensor-missing": lambda g: g.remove_tensor("blk.1.attn_norm.weight"),
    "experts-missing": lambda g: g.remove_tensor("_exps.weight"),
    "tensors-missing": lambda g: g.tensors.clear(),
    "architecture-missing": _drop_key("general.architecture"),
    "architecture-unknown": lambda g: g.set_string("general.architecture", b"no-such-model"),
    "architecture-invalid-utf8": lambda g: g.set_string("general.architecture", b"\xff\xfe\0"),
    "architecture-number": _set("general.architecture", 7),
    "architecture-long": lambda g: g.set_string("general.architecture", b"x" * 100_000),
    "architecture-escapes": lambda g: g.set_string("general.architecture", b"\x1b[31mred\x07\n"),
    "block-count-0": _set(".block_count", 0),
    "block-count-one-more": lambda g: g.set_uint32(".block_count", _uint32(g, ".block_count") + 1),
    "block-count-absurd": _set(".block_count", 2**31),
    "block-count-missing": _drop_key(".block_count"),
    "block-count-text": _value(".block_count", STRING, _string(b"x" * 100_000)),
    "embedding-length-0": _set(".embedding_length", 0),
    "embedding-length-absurd": _set(".embedding_length", 2**31),
    "embedding-length-string": _value(".embedding_length", STRING, _string(b"256")),
    "expert-count-0": _set(".expert_count", 0),
    "expert-count-doubled": lambda g: g.set_uint32(".expert_count", _uint32(g, ".expert_count") * 2),
    "expert-count-absurd": _set(".expert_count", 2**31),
    "expert-used-0": _set(".expert_used_count", 0),
    "expert-used-above-count": lambda g: g.set_uint32(".expert_used_count", _uint32(g, ".expert_count") + 1),
    "expert-width-doubled": lambda g: g.set_uint32(
        ".expert_feed_forward_length", _uint32(g, ".expert_feed_forward_length") * 2
    ),
    "head-count-0": _set(".attention.head_count", 0),
    "head-count-kv-0": _set(".attention.head_count_kv", 0),
    "head-count-absurd": _set(".attention.head_count", 2**31),
    "tokenizer-missing": _drop_key("tokenizer.ggml.tokens"),
    "token-twice": lambda g: _replace(g.key("ggml.tokens"), _string(b"A"), _string(b"B")),
    "tokenizer-unknown": lambda g: g.set_string("tokenizer.ggml.model", b"no-such-tokenizer"),
    "end-token-absurd": _set("ggml.eos_token_id", 2**31),
    "split-number-of-other-part": lambda g: _split(g, number=1),
}

# Variants that are not one changed file.
_PLACES = ("directory", "missing", "split-part-missing")

CORRUPTIONS = (*_FILES, *_EDITS, *_PLACES)


def _replace(key: RawKey, old: bytes, new: bytes) -> None:
    key.value = key.value.replace(old, new, 1)


def _uint32(g: RawGguf, suffix: str) -> int:
    return struct.unpack("<I", g.key(suffix).value)[0]


def _split(g: RawGguf, *, number: int) -> None:
    g.keys.append(RawKey(b"split.no", 2, struct.pack("<H", number)))
    g.keys.append(RawKey(b"split.count", 2, struct.pack("<H", 2)))
    g.keys.append(RawKey(b"split.tensors.count", 5, struct.pack("<i", 2 * len(g.tensors))))


def corrupt(good: str | Path, kind: str, directory: str | Path) -> Path:
    """Write the variant of a good file that CORRUPTIONS names, and return the path to open."""
    path = Path(directory) / f"{kind}.gguf"
    raw = read(good)
    if kind in _FILES:
        path.write_bytes(_FILES[kind](raw))
    elif kind in _EDITS:
        _EDITS[kind](raw)
        path.write_bytes(raw.build())
    elif kind == "directory":
        path.mkdir()
    elif kind == "split-part-missing":
        path = path.with_name(f"{kind}-00001-of-00002.gguf")
        _split(raw, number=0)
        path.write_bytes(raw.build())
    elif kind != "missing":
        raise ValueError(f"no corruption is called {kind!r}: choose one of {', '.join(CORRUPTIONS)}")
    return path


def corrupt_all(good: str | Path, directory: str | Path) -> Iterator[tuple[str, Path]]:
    """Every variant, as its name and the path to open."""
    for kind in CORRUPTIONS:
        yield kind, corrupt(good, kind, directory)


def flip_header_bytes(
    good: str | Path, directory: str | Path, *, count: int, seed: int = 0, flips: int = 4
) -> Iterator[tuple[str, Path]]:
    """Variants in which a few random bytes before the tensor data have random values."""
    raw = read(good)
    n_header = len(raw.header())
    whole = raw.build()
    for number in range(count):
        chance = random.Random(f"{seed}-{number}")
        data = bytearray(whole)
        for _ in range(chance.randint(1, flips)):
            data[chance.randrange(n_header)] = chance.randrange(256)
        path = Path(directory) / f"flipped-{seed}-{number}.gguf"
        path.write_bytes(data)
        yield path.stem, path
