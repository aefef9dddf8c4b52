"""What this machine and its settings allow a model: memory and its limits, swap, pages, folders, the model's disk."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from edgemoe import machine
from edgemoe.experts.library import SUPPORTED_VERSIONS
from edgemoe.files import data_folder, state_folder
from edgemoe.planning.kept import profile_path
from edgemoe.sizes import format_size

_BLOCK = 4096
_X86, _ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
_KERNELS = dict.fromkeys(_X86, ("avx2", "fma")) | dict.fromkeys(_ARM, ("neon",))
_RELEASED = dict.fromkeys(_X86, ("avx2", "fma")) | dict.fromkeys(_ARM, ("dotprod", "fp16"))
"""For which llama-cpp-python's wheels of a release are compiled (.github/workflows/release.yml)."""
COMPILE_HERE = (
    "compile llama-cpp-python on this machine: pip install --force-reinstall --no-deps "
    f"--no-binary llama-cpp-python llama-cpp-python=={SUPPORTED_VERSIONS[-1]}"
)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and in `advice` what to set or get, if anything; `ok` False: it does not work."""

    name: str
    value: str
    advice: str = ""
    ok: bool = True


def memory_finding() -> Finding:
    """What there is, and a container's limit."""
    total, physical, free = machine.total_memory(), machine.physical_memory(), machine.available_memory()
    value = f"{format_size(total)}, {format_size(free)} available, pages of {format_size(mmap.PAGESIZE)}"
    if total < physical:
        limit = f"a container's limit of {format_size(total)}, of {format_size(physical)} in the machine; "
        value = limit + value.split(", ", 1)[1]
        advice = "raise the limit (docker run --memory, MemoryMax= and MemoryHigh= of systemd) if others can spare it"
        return Finding("memory", value, advice)
    if free < total // 2:
        return Finding("memory", value, "other programs hold more than half of it: end some, and models get it")
    return Finding("memory", value)


def quota_finding() -> Finding | None:
    """A container's share of the cores' time; None where there is no such limit, or it grants them all."""
    quota, cores = machine.cpu_quota(), machine.cores()
    if quota is None or quota >= cores:
        return None
    value = f"a container's limit of {quota:.3g} cores' time, of {cores} cores: {machine.processors()} threads compute"
    return Finding("CPU quota", value, "raise it (docker run --cpus, CPUQuota= of systemd) if others can spare it")


def swap_finding(system: str = sys.platform) -> Finding:
    """Swap that is in use means that memory is short; edgemoe itself never needs it. `system` is as in sys.platform."""
    try:
        swap = psutil.swap_memory()
    except (OSError, RuntimeError):
        return Finding("swap", "the system does not tell")
    if not swap.total:
        if system == "darwin":
            return Finding("swap", "none in use: the system makes swap files when it needs them")
        return Finding("swap", "none: what exceeds the memory is killed; --memory keeps edgemoe below")
    value = f"{format_size(swap.used)} of {format_size(swap.total)} in use"
    if swap.used > swap.total // 4 and swap.used > machine.total_memory() // 16:
        return Finding("swap", value, "programs are swapped out: end some, or use a smaller --memory")
    return Finding("swap", value)


def features_finding(features: list[str], architecture: str) -> Finding:
    """What the kernels and the released wheels of llama-cpp-python need of the processor."""
    lacking, unreleased = (
        " and ".join(name for name in wanted.get(architecture.lower(), ()) if name not in features)
        for wanted in (_KERNELS, _RELEASED)
    )
    have = " ".join(features) or "no vector extensions that matter here"
    advice = []
    if lacking:
        advice.append(f"{lacking} missing: scalar kernels, several times slower (virtual machines: cpu=host)")
    if unreleased:
        advice.append(f"{unreleased} missing: a release's wheel of llama-cpp-python cannot run here; {COMPILE_HERE}")
    return Finding("processor", f"{machine.cores()} cores, {have}", "; ".join(advice))


def library_finding() -> Finding | None:
    """Whether loading llama.cpp's library ends a process, tried in one of its own; None where it does not.

    One that was compiled for another processor meets an instruction that this one lacks.
    """
    if getattr(sys, "frozen", False) or not sys.executable:
        return None
    command = [sys.executable, "-c", "from edgemoe.experts import library; library.load()"]
    code = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
    if code >= 0:  # what it may have raised is raised again where it is loaded
        return None
    if -code == signal.SIGILL:
        value = "llama-cpp-python was compiled for another processor: it ends with an illegal instruction"
        return Finding("backend", value, COMPILE_HERE, ok=False)
    value = f"llama-cpp-python ends with {signal.strsignal(-code) or f'signal {-code}'} when it is loaded"
    return Finding("backend", value, COMPILE_HERE, ok=False)


def proc_finding(proc: Path = Path("/proc")) -> Finding | None:
    """Where /proc is hidden, limits of containers are not seen. None where there should be none (not Linux)."""
    if os.uname().sysname != "Linux":
        return None
    if (proc / "self/cgroup").exists() and (proc / "meminfo").exists():
        return Finding("/proc", "readable")
    advice = "a container's limit cannot be seen: give --memory a size below it, or mount /proc"
    return Finding("/proc", "hidden", advice)


def folders_finding() -> Finding:
    """The user's folders that cannot be written; all of them may be missing."""
    lost = []
    for what, folder, variable in (
        ("measured speeds", lambda: profile_path().parent, "XDG_CACHE_HOME"),
        ("history and sessions", state_folder, "XDG_STATE_HOME"),
        ("names of models", data_folder, "XDG_DATA_HOME"),
    ):
        try:
            writable = _can_write(folder())
        except RuntimeError:  # no home at all
            writable = False
        if not writable:
            lost.append((what, variable))
    if not lost:
        return Finding("your folders", "can be written")
    kept, variables = (", ".join(parts) for parts in zip(*lost, strict=True))
    return Finding(
        "your folders", f"not kept, because they cannot be written: {kept}", f"set {variables} to folders that can"
    )


def _can_write(folder: Path) -> bool:
    """Whether it can be written, or be made."""
    try:
        while not folder.exists() and folder != folder.parent:  # raises where a folder above may not be entered
            folder = folder.parent
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def filesystem_finding(path: Path) -> Finding:
    """The kind of the file system at `path`, its free space, and whether reads go past the page cache."""
    kind, free = filesystem(path), psutil.disk_usage(str(path)).free
    value = f"{kind}, {format_size(free)} free"
    if path.is_file() and not reads_past_cache(path):
        advice = (
            "reads go through the page cache, which costs memory and speed (no O_DIRECT here): "
            "copy the model to a local disk (ext4, xfs, btrfs)"
        )
        return Finding("file system", value + ", no O_DIRECT", advice)
    if free < 256 << 20:
        return Finding("file system", value, "the disk is full: nothing can be pulled, packed or kept on it")
    return Finding("file system", value)


def filesystem(path: Path) -> str:
    """Of the mount that holds `path`: ext4, tmpfs, fuse.bindfs and so on; "unknown" where the system hides it."""
    with suppress(OSError, ValueError):
        device = os.stat(path).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            before, after = line.split(" - ", 1)
            if before.split()[2] == number:
                return after.split()[0]
    return "unknown"


def reads_past_cache(path: Path) -> bool:
    """Whether the file can be read unbuffered, with O_DIRECT or as macOS does it."""
    if not hasattr(os, "O_DIRECT"):
        return os.uname().sysname == "Darwin"
    try:
        file = os.open(path, os.O_RDONLY | os.O_DIRECT)
    except OSError:
        return False
    try:
        with mmap.mmap(-1, _BLOCK) as block:  # aligned, as O_DIRECT asks
            os.preadv(file, [block], 0)
        return True
    except OSError:
        return False
    finally:
        os.close(file)
