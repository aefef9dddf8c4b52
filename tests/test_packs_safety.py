"""Packs that are killed or starved while they are made: never a partial file under the final name, nor a wrong byte."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgemoe.errors import ModelError, ReadError, WriteError
from edgemoe.packs.partial import PartialFile
from edgemoe.packs.reader import Pack
from edgemoe.packs.source import Source
from edgemoe.packs.unpack import unpack
from edgemoe.packs.verify import verify
from edgemoe.packs.writer import pack
from models import write_model

SMALL = {"n_expert": 4, "n_expert_used": 2, "n_layer": 2, "n_ff_exp": 256, "n_embd": 256, "expert_type": "Q4_K"}
PROGRAM = [sys.executable, "-c", "from edgemoe.cli import main; main()"]
# Writes slowly, so that there is time to kill it: the pause is in the place of a slow disk.
SLOW = """
import sys, time
from edgemoe.packs.partial import PartialFile
write = PartialFile.write
def slowly(self, offset, data):
    time.sleep(0.002)
    write(self, offset, data)
PartialFile.write = slowly
print("ready", flush=True)
"""
SLOW_PACK = SLOW + "from edgemoe.packs.writer import pack; pack(*sys.argv[1:])"
SLOW_UNPACK = SLOW + "from edgemoe.packs.unpack import unpack; unpack(sys.argv[1], 4, sys.argv[2])"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    return write_model(folder / "source.gguf", "qwen3moe", **(SMALL | {"n_layer": 6, "n_expert": 16}))[0]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    source = write_model(folder / "source.gguf", "qwen3moe", mixed=True, **SMALL)[0]
    return pack(source, folder / "good.mwq.gguf").path


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The pack of an attempt without interruption."""
    return pack(source, tmp_path_factory.mktemp("expected") / "pack.mwq.gguf").path.read_bytes()


# Interruptions


def kill_often(program: str, source: Path, output: Path, seed: int) -> None:
    """Starts a program again and again and kills it, each time at another moment, until it is done or five are dead."""
    chance = random.Random(seed)
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", program, source, output], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(chance.uniform(0, 0.8))
            child.kill()
        if output.exists():
            break


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_and_resumed(source: Path, expected: bytes, tmp_path: Path, seed: int) -> None:
    output = tmp_path / "pack.mwq.gguf"
    kill_often(SLOW_PACK, source, output, seed)
    resumed = None
    if not output.exists():
        made = pack(source, output)
        resumed = made.resumed
    assert output.read_bytes() == expected
    assert resumed is None or 0 <= resumed <= 6
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


@pytest.mark.parametrize("seed", range(2))
def test_unpacking_killed_at_any_moment_and_resumed(
    expected: bytes, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, seed: int
) -> None:
    packed = tmp_path_factory.mktemp("packed") / "pack.mwq.gguf"
    packed.write_bytes(expected)
    whole = unpack(packed, 4, packed.with_name("whole.gguf")).path.read_bytes()
    output = tmp_path / "unpacked.gguf"
    kill_often(SLOW_UNPACK, packed, output, seed)
    if not output.exists():
        unpack(packed, 4, output)
    assert output.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def stop_after(monkeypatch: pytest.MonkeyPatch, groups: int, failure: BaseException) -> None:
    """Lets the commit of a group fail when `groups` were committed."""
    commit = PartialFile.commit

    def failing(self: PartialFile, name: str) -> None:
        if len(self.journal.read_text().splitlines()) > groups:
            raise failure
        commit(self, name)

    monkeypatch.setattr(PartialFile, "commit", failing)


def test_completed_layers_are_not_made_again(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "pack.mwq.gguf"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(source, output)
    assert not output.exists()
    journal = Path(f"{output}.partial.journal")
    journal.write_bytes(journal.read_bytes() + b'{"done": "blk.')  # what a kill cut off
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(source, output)
    assert pack(source, output).resumed == 4
    assert output.read_bytes() == expected


def test_what_was_damaged_since_is_made_again(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "pack.mwq.gguf"
    with monkeypatch.context() as patch:
        stop_after(patch, 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(source, output)
    partial = Path(f"{output}.partial")
    with Pack(pack(source, tmp_path / "other.mwq.gguf").path) as whole:
        at = whole.entries["blk.1.exps.mwq.3"].offset + 100
    data = bytearray(partial.read_bytes())
    data[at] ^= 1
    partial.write_bytes(data)
    assert pack(source, output).resumed == 3
    assert output.read_bytes() == expected


def test_another_source_or_setting_starts_anew(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "pack.mwq.gguf"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            pack(source, output)
    touched = tmp_path / "source.gguf"
    touched.write_bytes(source.read_bytes())
    assert pack(touched, output).resumed == 0
    assert verify(output).damages == []


def test_unpacking_is_resumed_too(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "pack.mwq.gguf"
    packed.write_bytes(expected)
    whole = unpack(packed, 3, tmp_path / "whole.gguf").path.read_bytes()
    output = tmp_path / "resumed.gguf"
    with monkeypatch.context() as patch:
        stop_after(patch, 3, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            unpack(packed, 3, output)
    assert not output.exists()
    assert unpack(packed, 3, output).path.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack.mwq.gguf", "resumed.gguf", "whole.gguf"]


def test_ctrl_c_says_how_to_go_on(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "pack.mwq.gguf"
    slow = SLOW + "from edgemoe.cli import main; main(['pack', *sys.argv[1:]])"
    command = [sys.executable, "-c", slow, source, "-o", output]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        while child.poll() is None and not Path(f"{output}.partial.journal").exists():
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"goes on" in errors
    assert b"Traceback" not in errors
    assert not output.exists()


def test_two_processes_do_not_write_the_same_pack(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "pack.mwq.gguf"
    with (
        PartialFile(output, 4096, {}),
        pytest.raises(WriteError, match="another process is writing"),
    ):
        pack(source, output)


# Disks and sources that fail


def test_too_little_space_is_told_before(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = list(os.statvfs(tmp_path))
    fields[4] = 100  # blocks that are free
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(fields))
    with pytest.raises(WriteError, match="needs .* more on its disk"):
        pack(source, tmp_path / "pack.mwq.gguf")
    assert list(tmp_path.iterdir()) == []


def test_disk_that_fills_up_meanwhile(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "pack.mwq.gguf"
    pwrite, written = os.pwrite, 0

    def full(file: int, data: bytes, offset: int) -> int:
        nonlocal written
        written += len(data)
        if written > len(expected) // 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(file, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(WriteError, match="make some"):
            pack(source, output)
    assert not output.exists()
    pack(source, output)
    assert output.read_bytes() == expected


@pytest.mark.parametrize("verb", ["pack", "unpack"])
def test_limited_file_size(source: Path, good: Path, tmp_path: Path, verb: str) -> None:
    import resource

    output = tmp_path / "out.gguf"
    arguments = [verb, str(source if verb == "pack" else good), "-o", str(output)]
    done = subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    )
    assert done.returncode == 2
    assert "no room left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()


@contextlib.contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Path]:
    """A file system of that size."""
    small = folder / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", small], check=False).returncode:
        pytest.skip("no permission to mount a small disk")
    try:
        yield small
    finally:
        subprocess.run(["umount", small], check=True)


def test_full_disk(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path, 1024) as small:
        with pytest.raises(WriteError, match="more on its disk"):
            pack(source, small / "pack.mwq.gguf")
        assert list(small.iterdir()) == []


def test_disk_that_another_program_fills_meanwhile(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = PartialFile.commit

    def filling(self: PartialFile, name: str) -> None:
        with contextlib.suppress(OSError), self.output.with_name("other").open("ab", buffering=0) as other:
            while True:
                other.write(bytes(1024))
        commit(self, name)

    with small_disk(tmp_path, len(expected) // 1024 + 512) as small:
        output = small / "pack.mwq.gguf"
        with monkeypatch.context() as patch:
            patch.setattr(PartialFile, "commit", filling)
            with pytest.raises(WriteError, match="make some"):
                pack(source, output)
        assert not output.exists()
        (small / "other").unlink()
        pack(source, output)
        assert output.read_bytes() == expected
        assert list(small.iterdir()) == [output]


@pytest.mark.parametrize("change", ["truncated", "written"])
def test_source_that_changes_meanwhile(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    victim = tmp_path / "source.gguf"
    victim.write_bytes(source.read_bytes())
    commit = PartialFile.commit

    def changing(self: PartialFile, name: str) -> None:
        if change == "truncated":
            os.truncate(victim, 100_000)
        else:
            with victim.open("r+b") as file:
                file.seek(-100, os.SEEK_END)
                file.write(b"x")
        commit(self, name)

    monkeypatch.setattr(PartialFile, "commit", changing)
    with pytest.raises((ReadError, ModelError), match="became shorter|was changed"):
        pack(victim, tmp_path / "pack.mwq.gguf")
    assert not (tmp_path / "pack.mwq.gguf").exists()


def test_source_that_is_removed_meanwhile(
    source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "source.gguf"
    victim.write_bytes(source.read_bytes())
    commit = PartialFile.commit

    def removing(self: PartialFile, name: str) -> None:
        victim.unlink(missing_ok=True)
        commit(self, name)

    monkeypatch.setattr(PartialFile, "commit", removing)
    # What is open can still be read, to the end.
    assert pack(victim, tmp_path / "pack.mwq.gguf").path.read_bytes() == expected


def test_source_with_weights_that_are_no_numbers(tmp_path: Path) -> None:
    path = write_model(tmp_path / "source.gguf", "qwen3moe", **(SMALL | {"expert_type": "F32"}))[0]
    with Source(path) as opened:
        tensor = next(t for t in opened.tensors if t.expert)
    with path.open("r+b") as file:
        file.seek(tensor.offset + tensor.bytes // 4 * 3)
        file.write(struct.pack("<f", float("nan")))
    with pytest.raises(ModelError, match="expert 3 of blk.0.exps"):
        pack(path, tmp_path / "pack.mwq.gguf")
