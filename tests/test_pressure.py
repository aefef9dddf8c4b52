"""memory="auto" on a running model: its policy on made-up series, what it reads of the system from made-up files."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgemoe import machine
from edgemoe.pressure import LONGEST_QUIET, QUIET, SETTLE, STALLED, STEPS, Follower, Pressure, Reading

MIB = 1 << 20
GIB = 1 << 30
TOTAL = 16 * GIB
SMALLEST, LARGEST = 1 * GIB, 9 * GIB
STEP = (LARGEST - SMALLEST) // STEPS
CHECK = 0.5


def spare(free: int) -> int:
    return min(TOTAL // 10, max(free, 0) // 2)


class Machine:
    """Others use `others(time)` bytes; the model fills what its budget grants at `fill` bytes per second."""

    def __init__(self, others: Callable[[float], float], budget: int, fill: float = math.inf, total: int = TOTAL):
        self.follower = Follower(spare)
        self.others, self.total, self.fill = others, total, fill
        self.budget, self.used, self.time = budget, SMALLEST, 0.0
        self.history: list[tuple[float, int]] = []
        """Times and values of changes."""

    @property
    def available(self) -> int:
        return max(0, int(self.total - self.used - self.others(self.time)))

    def run(self, seconds: float, stalled: Callable[[float], float] = lambda _: 0.0) -> None:
        for _ in range(int(seconds / CHECK)):
            self.used = int(min(self.budget, LARGEST, self.used + self.fill * CHECK))
            reading = Reading(self.time, self.used, self.available, stalled(self.time))
            wanted = self.follower.wanted(reading, self.budget, SMALLEST, LARGEST)
            assert min(self.budget, SMALLEST) <= wanted <= max(self.budget, LARGEST)
            if wanted != self.budget:
                self.history.append((self.time, wanted))
            self.budget = wanted
            self.time += CHECK

    @property
    def reversals(self) -> int:
        """How often growing followed on shrinking or shrinking on growing."""
        values = [budget for _, budget in self.history]
        signs = [b > a for a, b in zip(values, values[1:], strict=False)]
        return sum(a != b for a, b in zip(signs, signs[1:], strict=False))


def test_it_grows_slowly_to_the_whole_model_and_stays() -> None:
    case = Machine(lambda _: 1 * GIB, budget=2 * GIB)
    case.run(QUIET - CHECK)
    assert not case.history
    case.run(2 * STEPS * QUIET)
    assert case.budget == LARGEST
    times, budgets = zip(*case.history, strict=True)
    assert list(budgets) == sorted(budgets)
    assert all(b - a >= QUIET for a, b in zip(times, times[1:], strict=False))
    assert all(b - a <= 1.25 * STEP for a, b in zip((2 * GIB, *budgets), budgets, strict=False))
    case.run(3600)
    assert len(case.history) == len(times)


def test_it_shrinks_at_the_first_look_and_leaves_the_others_their_share() -> None:
    case = Machine(lambda time: 1 * GIB if time < 10 else 7 * GIB, budget=LARGEST)
    case.run(10)
    assert not case.history
    case.run(CHECK)
    case.used = case.budget
    assert case.available == spare(8 * GIB)
    case.run(600)
    assert len(case.history) == 1


def test_between_too_little_and_plenty_nothing_changes() -> None:
    case = Machine(lambda time: (TOTAL - LARGEST) - spare(8 * GIB) * (1 if time < 10 else 0.6), budget=LARGEST)
    case.run(600)
    assert not case.history


def test_it_grows_by_what_there_was_room_for_all_the_time() -> None:
    least = STEP // 2
    taken = TOTAL - 5 * GIB - spare(12 * GIB)  # with a budget of 5 GiB it leaves others just their share
    case = Machine(lambda time: taken - (least if 10 <= time < 11 else 2 * STEP), budget=5 * GIB)
    case.run(QUIET + 2 * CHECK)
    assert case.budget - 5 * GIB == pytest.approx(least, rel=0.1)


def test_it_shrinks_look_by_look_while_nothing_is_available() -> None:
    case = Machine(lambda time: 1 * GIB if time < 10 else 12 * GIB, budget=LARGEST)
    case.run(15)
    assert case.available >= spare(3 * GIB) // 2
    assert SMALLEST < case.budget <= 4 * GIB - case.available
    assert case.reversals == 0


def test_others_that_take_everything_leave_the_smallest() -> None:
    case = Machine(lambda time: time * 50 * MIB, budget=LARGEST)
    case.run(600)
    assert case.budget == SMALLEST
    assert [b for _, b in case.history] == sorted((b for _, b in case.history), reverse=True)


def test_a_promise_that_is_not_yet_used_counts() -> None:
    """The cache fills slowly: what it will take is not free, though the system says so."""
    case = Machine(lambda _: 10 * GIB, budget=LARGEST, fill=1.0)
    case.run(CHECK)
    assert case.budget <= TOTAL - 10 * GIB - spare(5 * GIB)


def test_a_budget_beyond_the_whole_model_is_not_shrunk_for_that() -> None:
    case = Machine(lambda _: 4 * GIB, budget=15 * GIB)
    case.run(600)
    assert not case.history


@pytest.mark.parametrize("others", [0, 4, 6, 8, 9, 10, 12, 13.5, 14.5, 15])
@pytest.mark.parametrize("start", [1, 2.5, 5, 9, 14])
@pytest.mark.parametrize("fill", [math.inf, 20 * MIB])
def test_it_settles_where_nothing_changes(others: float, start: float, fill: float) -> None:
    case = Machine(lambda _: others * GIB, budget=int(start * GIB), fill=fill)
    case.run(20 * QUIET * STEPS)
    assert case.reversals == 0
    changes = len(case.history)
    case.run(3600)
    assert len(case.history) == changes


@pytest.mark.parametrize("period", [1, 3, 10, 40, 70, 130, 300, 500, 900, 1500])
@pytest.mark.parametrize("shape", ["square", "sine", "saw"])
def test_it_does_not_follow_others_that_come_and_go(period: float, shape: str) -> None:
    def others(time: float) -> float:
        phase = time / period % 1
        height = {"square": phase < 0.5, "sine": 0.5 + 0.5 * math.sin(2 * math.pi * phase), "saw": phase}[shape]
        return (3 + 9 * height) * GIB

    case = Machine(others, budget=LARGEST)
    hours = 3
    case.run(hours * 3600)
    assert case.reversals <= 12 + 2 * hours * 3600 / max(period, LONGEST_QUIET)
    before = len(case.history)
    if period < LONGEST_QUIET / 2:  # it has learned: it stays small
        case.run(3600)
        assert len(case.history) == before


@pytest.mark.parametrize("seed", range(10))
def test_any_series_changes_it_rarely(seed: int) -> None:
    draw = random.Random(seed)
    level = 6.0 * GIB

    def others(_: float) -> float:
        nonlocal level
        level = min(15 * GIB, max(0, level + draw.gauss(0, 0.15) * GIB))
        return level

    case = Machine(others, budget=5 * GIB)
    case.run(2 * 3600, stalled=lambda _: draw.random() ** 6)
    grown = [now for (now, b), (_, a) in zip(case.history[1:], case.history, strict=False) if b > a]
    assert all(later - sooner >= QUIET for sooner, later in zip(grown, grown[1:], strict=False))
    assert case.reversals <= 40


def test_stalls_count_where_memory_is_scarce() -> None:
    scarce = Machine(lambda _: 5 * GIB, budget=LARGEST)  # leaves others 2 GiB: enough, if nobody waited
    scarce.run(30)
    assert not scarce.history
    scarce.run(60, stalled=lambda _: 2 * STALLED)
    times = [now for now, _ in scarce.history]
    assert times[0] == 30.0
    assert all(b - a >= SETTLE for a, b in zip(times, times[1:], strict=False))
    assert SMALLEST <= scarce.budget <= LARGEST - STEP
    shrunk = scarce.budget
    scarce.run(600, stalled=lambda _: STALLED / 2)  # no pressure, but no calm either
    assert scarce.budget == shrunk
    plenty = Machine(lambda _: 1 * GIB, budget=LARGEST)
    plenty.run(600, stalled=lambda _: 1.0)  # others run into limits of their own
    assert not plenty.history


# What the system says


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files in place of /proc and /sys/fs/cgroup."""
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", tmp_path / "cgroup")
    return tmp_path


def write(folder: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n")


V1 = "4:memory:/a/b\n0::/"
V2 = "0::/a/b"


def test_version_1_groups_limit_memory(system: Path) -> None:
    stat = f"cache 1\nactive_file 1\ntotal_active_file {3 * MIB}\ntotal_inactive_file {4 * MIB}\ntotal_shmem {9 * MIB}"
    write(system / "proc", {"self/cgroup": V1})
    write(system / "cgroup/memory", {"memory.limit_in_bytes": 9223372036854771712, "memory.usage_in_bytes": 5 * GIB})
    write(system / "cgroup/memory/a", {"memory.limit_in_bytes": 100 * MIB, "memory.usage_in_bytes": 60 * MIB})
    write(system / "cgroup/memory/a", {"memory.stat": stat})
    write(system / "cgroup/memory/a/b", {"memory.limit_in_bytes": 200 * MIB, "memory.usage_in_bytes": 50 * MIB})
    assert machine.total_memory() == 100 * MIB
    assert machine.available_memory() == 47 * MIB


def test_version_2_groups_limit_memory(system: Path) -> None:
    stat = f"anon 5\nfile {80 * MIB}\nactive_file {10 * MIB}\ninactive_file {20 * MIB}"
    write(system / "proc", {"self/cgroup": V2})
    write(system / "cgroup/a", {"memory.max": "max", "memory.current": 50 * MIB})
    write(system / "cgroup/a/b", {"memory.max": 100 * MIB, "memory.current": 95 * MIB, "memory.stat": stat})
    assert machine.total_memory() == 100 * MIB
    assert machine.available_memory() == 35 * MIB
    write(system / "cgroup/a/b", {"memory.current": 150 * MIB})
    assert machine.available_memory() == 0


def test_above_memory_high_processes_wait_so_it_limits(system: Path) -> None:
    write(system / "proc", {"self/cgroup": V2})
    write(system / "cgroup/a", {"memory.max": 90 * MIB, "memory.high": "max", "memory.current": 10 * MIB})
    write(system / "cgroup/a/b", {"memory.max": 100 * MIB, "memory.high": 80 * MIB, "memory.current": 10 * MIB})
    assert machine.total_memory() == 80 * MIB
    assert machine.available_memory() == 70 * MIB
    write(system / "cgroup/a/b", {"memory.high": "max"})
    assert machine.total_memory() == 90 * MIB


def test_held_memory_where_status_does_not_tell_it(system: Path) -> None:
    """gVisor's /proc/self/status has neither RssAnon nor VmSwap."""
    write(system / "proc", {"self/status": "Name:\tpython\nVmSize:\t 1 kB\nVmRSS:\t 1 kB\nThreads:\t1"})
    assert machine.held_memory() == pytest.approx(machine.rss(), rel=0.1)
    write(system / "proc", {"self/status": "RssAnon:\t 5 kB\nRssShmem:\t 0 kB\nVmSwap:\t 2 kB"})
    assert machine.held_memory() == 7 * 1024


def test_a_group_without_figures_counts_this_process(system: Path) -> None:
    write(system / "proc", {"self/cgroup": V2})
    write(system / "cgroup/a/b", {"memory.max": machine.rss() + 100 * MIB})
    assert 90 * MIB < machine.available_memory() < 110 * MIB


def test_stalls_are_those_of_the_system_and_of_the_group(system: Path) -> None:
    def stalls(some: int, full: int) -> str:
        line = "avg10=0.00 avg60=1.25 avg300=0.31 total="
        return f"some {line}{some}\nfull {line}{full}"

    write(system / "proc", {"self/cgroup": V2})
    pressure = Pressure()
    assert pressure.since_last(1.0) == 0.0
    write(system / "proc", {"pressure/memory": stalls(7_000_000, 1)})
    assert machine.memory_stalls() == {str(system / "proc/pressure/memory"): 7.0}
    assert pressure.since_last(2.0) == 0.0, "what was before nobody knows"
    write(system / "proc", {"pressure/memory": stalls(7_200_000, 2)})
    write(system / "cgroup/a/b", {"memory.pressure": stalls(3_000_000, 3)})
    assert pressure.since_last(4.0) == pytest.approx(0.1)
    write(system / "cgroup/a/b", {"memory.pressure": stalls(3_900_000, 3)})
    assert pressure.since_last(5.0) == pytest.approx(0.9)
    assert pressure.since_last(5.0) == 0.0
    write(system / "cgroup/a/b", {"memory.pressure": "nothing that is known"})
    assert pressure.since_last(6.0) == 0.0


HELD = """
from edgemoe import machine
before = machine.held_memory()
block = bytearray(b"x") * (64 << 20)
with_block = machine.held_memory()
assert with_block <= machine.rss()
del block
print(with_block - before, machine.held_memory() - before)
"""


def test_held_memory_is_what_was_allocated() -> None:
    """In a process of its own: in this one, what other tests left may be freed meanwhile."""
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    held, left = map(int, done.stdout.split())
    assert 60 * MIB < held < 70 * MIB
    assert left < 10 * MIB
