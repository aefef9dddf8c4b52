"""Damaged packs: every flipped bit is found or refused, every lie is refused by name, nothing crashes."""

from __future__ import annotations

import dataclasses
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import xxhash

from edgemoe import Llama
from edgemoe.cli import main
from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.packs.header import Entry, Value, write_header
from edgemoe.packs.layout import CHECKSUMS, is_extents, plane_bytes
from edgemoe.packs.plan import Settings, make_plan
from edgemoe.packs.reader import Pack
from edgemoe.packs.source import Source
from edgemoe.packs.summary import open_model
from edgemoe.packs.unpack import unpack
from edgemoe.packs.verify import verify
from edgemoe.packs.writer import pack
from models import write_model

SMALL = {"n_expert": 4, "n_expert_used": 2, "n_layer": 2, "n_ff_exp": 256, "n_embd": 256, "expert_type": "Q4_K"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    source = write_model(folder / "source.gguf", "qwen3moe", mixed=True, **SMALL)[0]
    return pack(source, folder / "good.mwq.gguf").path


def found_by(path: Path) -> str:
    """What verify says of a pack: "fine", "damaged", or "refused"."""
    try:
        return "damaged" if verify(path).damages else "fine"
    except EdgeMoEError:
        return "refused"


def test_every_flipped_bit_is_found(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    with Pack(good) as opened:
        spans = [(0, opened.data_offset), *((e.offset, e.offset + e.bytes) for e in opened.entries.values())]
    chance = random.Random(0)
    path = tmp_path / "flipped.gguf"
    for start, end in spans:
        for at in [start, end - 1, *(chance.randrange(start, end) for _ in range(6 if start else 150))]:
            flipped = bytearray(data)
            flipped[at] ^= 1 << chance.randrange(8)
            path.write_bytes(flipped)
            assert found_by(path) != "fine", at


def test_damage_is_named(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Pack(good) as opened:
        group = opened.groups[1]
        at = opened.entries[group.tensor_name(3)].offset + 2 * group.extent(3) + 5
    data = bytearray(good.read_bytes())
    data[at] ^= 4
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    assert verify(path).damages == ["level 3 of expert 2 of blk.1.exps is damaged"]
    with pytest.raises(SystemExit) as left:
        main(["verify", str(path)])
    assert left.value.code == 1
    assert "level 3 of expert 2 of blk.1.exps" in capsys.readouterr().out
    with pytest.raises(ModelError, match="level 3 of expert 2 of blk.1.exps is damaged"):
        unpack(path, 4, tmp_path / "whole.gguf")
    assert not list(tmp_path.glob("whole.gguf*"))
    assert unpack(path, 2, tmp_path / "coarse.gguf").level == 2  # what is not needed may be damaged


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_packs_are_refused(good: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(good.read_bytes()[: int(good.stat().st_size * share)])
    for read in (verify, open_model):
        with pytest.raises(EdgeMoEError, match="short.gguf"):
            read(path)


def test_a_longer_file_is_found(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.gguf"
    path.write_bytes(good.read_bytes() + b"more")
    assert "bytes where" in verify(path).damages[0]


Edit = Callable[[bytearray, Callable[[str], int]], None]


def put(key: str, code: str, value: int, *, at: int = 0) -> Edit:
    return lambda data, place: struct.pack_into(f"<{code}", data, place(key) + at, value)


ARRAY = 12  # bytes before the first number of an array
LIES: dict[str, tuple[Edit, str]] = {
    "newer": (put("version", "I", 2), "version 2.*update"),
    "version 0": (put("version", "I", 0), "format version 0"),
    "levels": (put("levels", "I", 3, at=ARRAY), "levels are not"),
    "last level": (put("levels", "I", 5, at=ARRAY + 8), "levels are not"),
    "format": (put("formats", "I", 7, at=ARRAY), "has the format 7"),
    "other slices": (put("formats", "I", 3, at=ARRAY), "slices of q6_K, but its type is 12"),
    "T16 for slices": (put("formats", "I", 0, at=ARRAY), "shapes ask for"),
    "type": (put("types", "I", 0, at=ARRAY), "its type is 0"),
    "smaller blocks": (put("types", "I", 19, at=ARRAY), "its type is 19"),
    "columns": (put("shapes", "Q", 255, at=ARRAY), "rows of 255"),
    "more columns": (put("shapes", "Q", 512, at=ARRAY), "shapes ask for"),
    "no rows": (put("shapes", "Q", 0, at=ARRAY + 8), "dimension of 0"),
    "many rows": (put("shapes", "Q", 1 << 60, at=ARRAY + 8), "a dimension of"),
    "more rows": (put("shapes", "Q", 1 << 40, at=ARRAY + 8), "a dimension of"),
    "experts": (put("shapes", "Q", 5, at=ARRAY + 16), "another number of experts"),
    "alignment": (put("general.alignment", "I", 32), "alignment|header"),
    "kind of levels": (put("levels", "I", 6), "no numbers|levels"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused(good: Path, tmp_path: Path, lie: str) -> None:
    with Source(good.parent / "source.gguf") as opened:
        places = make_plan(opened, Settings()).places
    data = bytearray(good.read_bytes())
    edit, message = LIES[lie]
    edit(data, lambda key: places.get(key) or places[f"edgemoe.mwq.{key}"])
    path = tmp_path / "lying.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        open_model(path)
    with pytest.raises(ModelError):
        Pack(path)


def rebuilt(good: Path, path: Path, change: Callable[[dict[str, Value], list[Entry]], None]) -> Path:
    """The pack with metadata and tensors as `change` leaves them."""
    with Pack(good) as opened:
        keys, entries = dict(opened.keys), list(opened.entries.values())
        change(keys, entries)
        header, placed, _ = write_header(keys, entries, 4096)
        data = good.read_bytes()
        with path.open("wb") as file:
            file.write(header)
            for old, new in zip(entries, placed, strict=True):
                file.seek(new.offset)
                file.write(data[old.offset : old.offset + old.bytes])
            file.truncate(-(-file.tell() // 4096) * 4096)
    return path


def without(name: str) -> Callable[[dict[str, Value], list[Entry]], None]:
    return lambda keys, entries: entries.remove(next(entry for entry in entries if entry.name == name))


def renamed(name: str, new: str) -> Callable[[dict[str, Value], list[Entry]], None]:
    def change(keys: dict[str, Value], entries: list[Entry]) -> None:
        at = next(number for number, entry in enumerate(entries) if entry.name == name)
        entries[at] = dataclasses.replace(entries[at], name=new)

    return change


def swapped(keys: dict[str, Value], entries: list[Entry]) -> None:
    entries[-1], entries[-2] = entries[-2], entries[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("blk.0.exps.mwq.3"), "blk.0.exps.mwq.3 is missing"),
        (without("blk.1.exps.mwq.eps"), "blk.1.exps.mwq.eps is missing"),
        (without("mwq.t16.2"), "mwq.t16.2 is missing"),
        (without("mwq.xxh3"), "mwq.xxh3 is missing"),
        (renamed("blk.0.exps.mwq.3", "blk.0.exps.mwq.5"), "blk.0.exps.mwq.3 is missing"),
        (renamed("blk.0.attn_norm.weight", "blk.0.exps.mwq.9"), "mwq.9 does not belong|mwq.xxh3 has shape"),
        (swapped, "begins at byte"),
        *[
            (lambda keys, entries, key=key: keys.pop(f"edgemoe.mwq.{key}"), f"{key} is missing")
            for key in ("levels", "bias_levels", "source.name", "source.xxh3", "tensors", "formats", "types", "shapes")
        ],
        (lambda keys, entries: keys.pop("edgemoe.mwq.version"), "is no pack"),
        (lambda keys, entries: keys.update({"edgemoe.mwq.levels": Value.text("2,3,4")}), "levels has the wrong type"),
        (
            lambda keys, entries: keys.update({"edgemoe.mwq.tensors": Value.texts(["a"] * 6)}),
            "twice|is missing",
        ),
        (
            lambda keys, entries: keys.update({"edgemoe.mwq.tensors": Value.texts(["a" * 100_000] * 6)}),
            "a name of 100000 bytes",
        ),
        (lambda keys, entries: keys.update({"edgemoe.mwq.types": Value.numbers([12], "u4")}), "6 formats, 1 types"),
    ],
)
def test_contradictions_are_refused(good: Path, tmp_path: Path, change: Callable, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Pack(rebuilt(good, tmp_path / "rebuilt.gguf", change))


def test_what_is_rebuilt_without_change_is_a_pack(good: Path, tmp_path: Path) -> None:
    same = rebuilt(good, tmp_path / "rebuilt.gguf", lambda keys, entries: None)
    assert same.read_bytes() == good.read_bytes()


@pytest.mark.parametrize("offset", [0, 4096, 1 << 40, (1 << 64) - 4096])
def test_tensors_elsewhere_are_refused(good: Path, tmp_path: Path, offset: int) -> None:
    data = bytearray(good.read_bytes())
    name = b"blk.1.exps.mwq.3"
    at = data.index(name) + len(name) + 4 + 16 + 4  # behind the number of dimensions, two of them, and the type
    struct.pack_into("<Q", data, at, offset)
    path = tmp_path / "moved.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="moved.gguf"):
        Pack(path)


# Computes with each pack given, one line for each; in a process of its own, for what it would take down.
PROBE = """
import sys
from edgemoe import Llama
for path in sys.argv[1:]:
    model = Llama(path, n_ctx=64, n_threads=1)
    model.eval(list(range(20)))
    model.eval([1])
    model.close()
    print(path, flush=True)
"""


def test_damage_that_all_experts_share_is_refused_before_running(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source.gguf", "qwen3moe", **(SMALL | {"expert_type": "F16"}))[0]
    path = pack(source, tmp_path / "pack.mwq.gguf", Settings(requantize=True)).path
    good = path.read_bytes()
    with Pack(path) as opened:
        names = [name for name in opened.entries if name.startswith("mwq.") or name.endswith((".eps", ".xxh3"))]
        places = {name: opened.entries[name].offset + 5 for name in names if name != "mwq.xxh3"}
    assert {"mwq.t16.2", "mwq.t16.4", "blk.0.exps.mwq.eps", "blk.1.exps.mwq.xxh3"} <= set(places)
    for name, at in places.items():
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(ModelError, match=name.replace(".", r"\.")):
            Llama(path, n_ctx=64, n_threads=1).close()
    path.write_bytes(good)
    Llama(path, n_ctx=64, n_threads=1).close()


@pytest.mark.parametrize("expert_type", ["Q4_K", "F16"])
def test_extents_of_anything_can_be_computed_with(tmp_path: Path, expert_type: str) -> None:
    """Whoever runs a pack without verifying it may get nonsense from it, and nothing worse."""
    source = write_model(tmp_path / "source.gguf", "qwen3moe", mixed=True, **(SMALL | {"expert_type": expert_type}))[0]
    good = np.fromfile(pack(source, tmp_path / "good.mwq.gguf").path, np.uint8)
    with Pack(tmp_path / "good.mwq.gguf") as opened:
        spans = [(e.offset, e.offset + e.bytes) for e in opened.entries.values() if is_extents(e.name)]
        gains = gains_of(opened)
    paths = []
    for fill in (0x00, 0x7C, 0x7F, 0xFF, None):  # 0x7C and 0x7F: scales that are no numbers
        data = good.copy()
        for start, end in spans:
            data[start:end] = np.random.default_rng(0).integers(0, 256, end - start) if fill is None else fill
        for at in gains:  # others are refused
            data[at : at + 4] = np.ones(1, "<f4").view(np.uint8)
        paths.append(str(tmp_path / f"{fill}.mwq.gguf"))
        data.tofile(paths[-1])
    done = subprocess.run([sys.executable, "-c", PROBE, *paths], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == paths, done.stderr[-3000:]


def gains_of(opened: Pack) -> list[int]:
    """Where in the file each gain is."""
    return [
        opened.entries[group.tensor_name(2)].offset
        + expert * group.extent(2)
        + start
        + plane_bytes(tensor, 2, biased=False)
        - at
        for group in opened.groups
        for expert in range(group.experts)
        for tensor, start in zip(group.tensors, group.plane_offsets(2), strict=False)
        for at in (16, 12, 8, 4)
    ]


@pytest.mark.parametrize("gain", [float("nan"), float("inf"), -1.0, 0.0, 0.49, 2.01])
@pytest.mark.parametrize("expert_type", ["Q4_K", "F16"])
def test_gains_beyond_their_range_are_refused(tmp_path: Path, expert_type: str, gain: float) -> None:
    source = write_model(tmp_path / "source.gguf", "qwen3moe", mixed=True, **(SMALL | {"expert_type": expert_type}))[0]
    path = pack(source, tmp_path / "good.mwq.gguf").path
    data = np.fromfile(path, np.uint8)
    with Pack(path) as opened:
        group = opened.groups[0]
        places, base = gains_of(opened), opened.entries[group.tensor_name(2)].offset
        sums = opened.entries[group.tensor_name("xxh3")].offset
        size, sums_bytes = group.extent(2), opened.entries[group.tensor_name("xxh3")].bytes
        small = opened.entries[CHECKSUMS].offset + 8 * (1 + list(opened.entries).index(group.tensor_name("xxh3")))
    data[places[1] : places[1] + 4] = np.array([gain], "<f4").view(np.uint8)
    for at, first, length in ((sums, base, size), (small, sums, sums_bytes)):
        digest = struct.pack("<Q", xxhash.xxh3_64_intdigest(data[first : first + length]))
        data[at : at + 8] = np.frombuffer(digest, np.uint8)
    data.tofile(path)
    name = group.tensors[0].name
    assert f"the gain of expert 0 of {name} at level 3 is {np.float32(gain)}" in verify(path).damages
    unpack(path, 2, tmp_path / "two.gguf")  # level 3's gain is not used
    with pytest.raises(ModelError, match="gain .* at level 3, which is not between 0.5 and 2"):
        unpack(path, 3, tmp_path / "three.gguf")
    with closing(Llama(path, n_ctx=64, n_threads=1, quality="fixed:3")) as llm, pytest.raises(ModelError, match="gain"):
        llm.eval(list(range(40)))


def test_tables_beyond_their_range_are_refused(good: Path, tmp_path: Path) -> None:
    data = np.fromfile(good, np.uint8)
    with Pack(good) as opened:
        data[opened.entries["mwq.t16.4"].offset + 77] = 64
    path = tmp_path / "tables.gguf"
    data.tofile(path)
    with pytest.raises(ModelError, match="mwq.t16.4 holds 64"):
        Pack(path)


def test_errors_that_are_no_numbers_are_found(good: Path, tmp_path: Path) -> None:
    data = np.fromfile(good, np.uint8)
    with Pack(good) as opened:
        at = opened.entries["blk.0.exps.mwq.eps"].offset
    data[at : at + 4] = np.frombuffer(struct.pack("<f", float("nan")), np.uint8)
    path = tmp_path / "nan.gguf"
    data.tofile(path)
    with pytest.raises(ModelError, match="the error of expert 0 of blk.0.exps at level 2 is nan"):
        verify(path)
