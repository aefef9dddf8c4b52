"""What limits a machine: real limits of control groups, file systems and folders, and the order of what would help."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from edgemoe import machine
from edgemoe.default_model import default_model_path
from edgemoe.errors import BudgetError
from edgemoe.experts.library import SUPPORTED_VERSIONS
from edgemoe.planning.limits import find_limits, typical_speed
from edgemoe.planning.machines import GIB, MACHINES
from edgemoe.planning.surroundings import (
    features_finding,
    filesystem,
    filesystem_finding,
    folders_finding,
    proc_finding,
    quota_finding,
    reads_past_cache,
    swap_finding,
)

MIB = 1 << 20
MODEL = str(default_model_path())
DOCTOR = [sys.executable, "-m", "edgemoe", "doctor", "--json", MODEL]
VERSION = SUPPORTED_VERSIONS[-1]
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def finding(output: str, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(output)["findings"]
    (one,) = [finding for finding in found if finding["name"] == name]
    return one


# What would help most


def names(machine: Any) -> list[str]:
    return [limit.name for limit in find_limits(machine, typical_speed)]


def test_a_card_and_little_memory_are_helped_by_a_disk_first() -> None:
    assert names(MACHINES["pi5-sd"])[:2] == ["disk", "memory"]


def test_with_enough_memory_the_disk_does_not_matter() -> None:
    limits = names(replace(MACHINES["pi5-sd"], memory_bytes=64 * GIB))
    assert "disk" not in limits
    assert limits[0] in ("memory bandwidth", "cores")


def test_gains_are_those_of_the_roofline() -> None:
    machine = replace(MACHINES["pi5-sd"], memory_bytes=64 * GIB)
    gains = {limit.name: limit.gain for limit in find_limits(machine, typical_speed)}
    faster = replace(machine, memory_bandwidth=2 * machine.memory_bandwidth)
    expected = typical_speed(faster).per_second / typical_speed(machine).per_second
    assert gains.get("memory bandwidth", 1.0) == pytest.approx(expected) or expected < 1.05


def test_a_model_that_does_not_fit_needs_memory() -> None:
    (limit,) = find_limits(replace(MACHINES["pi5-sd"], memory_bytes=GIB), typical_speed)
    assert limit.name == "memory"
    assert "does not fit" in limit.value
    with pytest.raises(BudgetError):
        typical_speed(replace(MACHINES["pi5-sd"], memory_bytes=GIB))


# The machine


def test_missing_features_are_named() -> None:
    assert "avx2 and fma missing" in features_finding(["sse4"], "x86_64").advice
    assert features_finding(["avx2", "fma"], "AMD64").advice == ""
    assert "neon missing" in features_finding([], "aarch64").advice


PI_4, PI_5 = ["neon"], ["neon", "dotprod", "fp16"]


def test_a_processor_that_released_wheels_do_not_run_on_has_to_compile() -> None:
    advice = features_finding(PI_4, "aarch64").advice
    assert advice.startswith("dotprod and fp16 missing: a release's wheel of llama-cpp-python cannot run here; compile")
    assert f"pip install --force-reinstall --no-deps --no-binary llama-cpp-python llama-cpp-python=={VERSION}" in advice
    assert "scalar" not in advice
    assert features_finding(PI_5, "aarch64").advice == ""
    assert features_finding([*PI_5, "i8mm"], "arm64").advice == ""


def test_a_library_for_another_processor_is_told(tmp_path: Path) -> None:
    """It dies as soon as it is loaded; doctor goes on without it."""
    (tmp_path / "llama_cpp").mkdir()
    dies = "import os, signal\n\nos.kill(os.getpid(), signal.SIGILL)\n"
    (tmp_path / "llama_cpp/__init__.py").write_text(dies)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(DOCTOR, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    backend = finding(done.stdout, "backend")
    assert not backend["ok"]
    assert "compiled for another processor" in backend["value"]
    assert "--no-binary llama-cpp-python" in backend["advice"]
    assert "cores" in finding(done.stdout, "processor")["value"]
    assert "MB/s" in finding(done.stdout, "disk")["value"]
    assert json.loads(done.stdout)["limits"] == []


def test_a_container_s_limit_is_seen(prove_budget: ModuleType) -> None:
    with prove_budget.memory_group(700 * MIB) as group:
        done = prove_budget.run_in([group], DOCTOR)
    assert done.returncode == 0, done.stderr
    memory = finding(done.stdout, "memory")
    assert memory["value"].startswith("a container's limit of 700 MiB, of ")
    assert "raise the limit" in memory["advice"]


@ROOT
def test_one_core_of_a_cpuset_is_seen(prove_budget: ModuleType) -> None:
    import control_groups  # beside prove_budget

    if lacking := control_groups.missing(control_groups.CORES):
        pytest.skip(lacking)
    with control_groups.cores_group("0") as group:
        done = control_groups.run_in([group], DOCTOR)
    assert done.returncode == 0, done.stderr
    assert finding(done.stdout, "processor")["value"].startswith("1 cores")


QUOTA = "from edgemoe import machine as m; print(m.cpu_quota(), m.processors(), m.cores())"


@ROOT
def test_a_cpu_quota_is_seen(prove_budget: ModuleType) -> None:
    import control_groups  # beside prove_budget

    if lacking := control_groups.missing(control_groups.CPU):
        pytest.skip(lacking)
    with control_groups.quota_group(0.8) as group:
        done = control_groups.run_in([group], [sys.executable, "-c", QUOTA])
    assert done.returncode == 0, done.stderr
    quota, threads, cores = done.stdout.split()
    assert float(quota) == pytest.approx(0.8, rel=0.01)
    assert int(threads) == 1
    assert int(cores) == machine.cores()


def limit_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str]) -> None:
    """Files in place of /proc/self/cgroup and /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": groups, **{f"cgroup/{name}": text for name, text in files.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_PROC", folder / "proc")
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", folder / "cgroup")


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "20000 40000"}, 0.5),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/b/memory.max": "1"}, None),
        ("3:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "-1", "cpu/a/cpu.cfs_period_us": "100000"}, None),
        ("3:cpu,cpuacct:/hidden", {"cpu/cpu.cfs_quota_us": "25000", "cpu/cpu.cfs_period_us": "50000"}, 0.5),
    ],
)
def test_quotas_of_groups_and_of_those_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, files: dict[str, str], quota: float | None
) -> None:
    limit_cpu(tmp_path, monkeypatch, groups, files)
    assert machine.cpu_quota() == quota
    assert machine.processors() == (machine.cores() if quota is None else min(machine.cores(), math.ceil(quota)))


def test_a_quota_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_cpu(tmp_path, monkeypatch, "0::/a", {"a/cpu.max": "50000 100000"})
    found = quota_finding()
    assert found is not None
    assert found.value.startswith("a container's limit of 0.5 cores' time, of ")
    assert "--cpus" in found.advice
    limit_cpu(tmp_path, monkeypatch, "0::/a", {"a/cpu.max": "max 100000"})
    assert quota_finding() is None


def test_no_swap_on_a_mac_is_no_threat() -> None:
    """It makes swap files when it needs them."""
    if psutil.swap_memory().total:
        pytest.skip("this machine has swap")
    assert "killed" in swap_finding("linux").value
    assert "killed" not in swap_finding("darwin").value


# Folders


@ROOT
def test_folders_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    """A read-only home: a mount, because root may write to anything else."""
    home = tmp_path / "home"
    home.mkdir()
    script = f'mount -t tmpfs -o ro none {home} && exec "$@"'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = ["unshare", "-m", "sh", "-c", script, "sh"]
    done = subprocess.run([*command, *DOCTOR], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folders = finding(done.stdout, "your folders")
    assert "cannot be written: measured speeds, history and sessions, names of models" in folders["value"]
    assert "set XDG_CACHE_HOME, XDG_STATE_HOME, XDG_DATA_HOME" in folders["advice"]
    chat = [sys.executable, "-m", "edgemoe", "chat", MODEL, "-p", "Hello", "--max-tokens", "3"]
    done = subprocess.run([*command, *chat], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@ROOT
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv")
def test_a_home_that_may_not_be_entered_says_what_to_set(tmp_path: Path) -> None:
    """Another user's, without root's right to read anything."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    if run("-c", f"import os; os.listdir({str(home)!r})").returncode == 0:
        pytest.skip("setpriv takes no rights away here")
    code = "from edgemoe.planning.surroundings import folders_finding as f; print(f().ok, f().value, f().advice)"
    found = run("-c", code).stdout
    assert found.startswith(
        "True not kept, because they cannot be written: measured speeds, history and sessions, names"
    )
    assert "set XDG_CACHE_HOME, XDG_STATE_HOME, XDG_DATA_HOME to" in found
    listed = run("-m", "edgemoe", "list")
    assert listed.returncode != 0
    assert listed.stderr.startswith(
        f"edgemoe: {home}/.local/share/edgemoe/models.json cannot be read: Permission denied"
    )
    assert "set XDG_DATA_HOME to a folder that you may use" in listed.stderr
    settings = run("-c", "from edgemoe.config import load_config; load_config()").stderr
    assert "set XDG_CONFIG_HOME to a folder that you may use" in settings


def test_folders_that_can_be_written_are_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "not" / "yet"))
    assert folders_finding().advice == ""
    assert list(tmp_path.iterdir()) == []


def test_a_hidden_proc_is_told(tmp_path: Path) -> None:
    found = proc_finding(tmp_path)
    assert found is not None
    assert "give --memory a size" in found.advice


@ROOT
def test_it_works_where_proc_is_hidden() -> None:
    """An empty file system over /proc: doctor and chat say or do what they can."""
    # Not `exec`: what getrusage calls the peak would be that of the process which runs the tests.
    command = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && "$@"; exit $?', "sh"]
    done = subprocess.run([*command, *DOCTOR], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert finding(done.stdout, "/proc")["value"] == "hidden"
    chat = [sys.executable, "-m", "edgemoe", "chat", MODEL, "-p", "Hello", "--max-tokens", "3", "--memory", "300MiB"]
    done = subprocess.run([*command, *chat], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# File systems


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder to mount something on."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    yield folder
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


def mount(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]}: {done.stderr.strip()}")


def answers(model: Path) -> None:
    chat = [
        sys.executable,
        "-m",
        "edgemoe",
        "chat",
        str(model),
        "-p",
        "Hello",
        "--max-tokens",
        "3",
        "--temperature",
        "0",
    ]
    done = subprocess.run(chat, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_file_system_of_a_model_is_named() -> None:
    assert filesystem(Path(MODEL)) not in ("", "unknown")


@ROOT
@pytest.mark.skipif(not shutil.which("bindfs"), reason="needs bindfs")
def test_fuse_works_and_its_kind_is_told(tmp_path: Path, mounted: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(MODEL, source / "m.gguf")
    mount("bindfs", source, mounted)
    model = mounted / "m.gguf"
    assert filesystem(model).startswith("fuse")
    found = filesystem_finding(model)
    assert ("no O_DIRECT" in found.value) == (not reads_past_cache(model))
    answers(model)


@ROOT
def test_a_file_system_without_o_direct_works_and_says_what_to_do(mounted: Path) -> None:
    """ramfs takes no O_DIRECT, as some network file systems."""
    mount("mount", "-t", "ramfs", "none", mounted)
    model = mounted / "m.gguf"
    shutil.copy(MODEL, model)
    if reads_past_cache(model):
        pytest.skip("ramfs of this kernel takes O_DIRECT")
    found = filesystem_finding(model)
    assert "ramfs" in found.value
    assert "copy the model to a local disk" in found.advice
    answers(model)


@ROOT
def test_a_full_disk_works_and_is_told(tmp_path: Path, mounted: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(24 * MIB)
    mount("mkfs.ext4", "-q", "-m", "0", image)
    mount("mount", "-o", "loop", image, mounted)
    model = mounted / "m.gguf"
    shutil.copy(MODEL, model)
    with (mounted / "filler").open("wb") as filler:
        try:
            while True:
                filler.write(bytes(MIB))
                filler.flush()
        except OSError:
            pass
    found = filesystem_finding(model)
    assert "the disk is full" in found.advice
    homes = {f"XDG_{name}_HOME": str(mounted / name) for name in ("CACHE", "STATE", "DATA", "CONFIG")}
    environment = os.environ | homes | {"TMPDIR": str(mounted)}
    for arguments in (["chat", str(model), "-p", "Hello", "--max-tokens", "3"], ["doctor", str(model)]):
        command = [sys.executable, "-m", "edgemoe", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
