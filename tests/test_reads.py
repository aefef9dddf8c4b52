"""Read sizes that fit the disk: by the cost of a read and the bandwidth, measured on real and limited disks."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from edgemoe.experts.reads import LONG, SHORT, Disk, choose_reads, disk_of, measure_disk

MIB = 1 << 20


def test_cost_and_bandwidth_from_two_lengths() -> None:
    disk = disk_of(0.004 + SHORT / 90e6, 0.004 + LONG / 90e6)
    assert disk.cost == pytest.approx(0.004)
    assert disk.bandwidth == pytest.approx(90e6)
    assert disk_of(0.001, 0.001).cost <= 0.001  # as noise has it


@pytest.mark.parametrize(
    ("disk", "threads", "together"),
    [
        (Disk(4e-3, 90e6), 2, MIB),  # an SD card
        (Disk(20e-6, 2e9), 8, MIB // 4),  # NVMe
        (Disk(100e-6, 1e9), 8, MIB // 2),  # an SSD behind USB
        (Disk(10e-3, 150e6), 2, MIB),  # a hard disk
        (Disk(0.0, 10e9), 8, MIB // 4),
    ],
)
def test_few_long_reads_where_each_costs_much(disk: Disk, threads: int, together: int) -> None:
    reads = choose_reads(disk, 8)
    assert (reads.threads, reads.together) == (threads, together)


def test_no_more_threads_than_there_are() -> None:
    assert choose_reads(Disk(4e-3, 90e6), 1).threads == 1


def test_a_real_disk_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * (16 * MIB // 256))
    disk = measure_disk(file, 8)
    assert disk.cost >= 0
    assert disk.bandwidth > 0


def test_a_disk_that_serves_few_reads_a_second_gets_long_ones(tmp_path: Path, prove_budget: ModuleType) -> None:
    """250 reads and 90 MB a second, as of an SD card, by the kernel's own limits."""
    import json
    import subprocess
    import sys

    import control_groups

    if lacking := control_groups.missing(control_groups.DISK):
        pytest.skip(lacking)
    file = tmp_path / "file"
    file.write_bytes(b"x" * (64 * MIB))
    code = (
        "import sys, json, dataclasses; from edgemoe.experts.reads import *; "
        "print(json.dumps(dataclasses.asdict(choose_reads(measure_disk(sys.argv[1], 8), 8))))"
    )
    control_groups.forget_pages([file])
    try:
        with control_groups.disk_group(90_000_000, [file], 250) as group:
            done = control_groups.run_in([group], [sys.executable, "-c", code, str(file)])
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the disk cannot be limited: {error}")
    assert done.returncode == 0, done.stderr
    reads = json.loads(done.stdout)
    assert reads["together"] >= MIB // 2
    assert reads["threads"] == 2
