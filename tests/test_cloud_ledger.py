"""The ledger of what cloud answers cost: shared by processes, damaged, killed; money for requests under way."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest

from edgemoe import EdgeMoEError, ReadError, WriteError
from edgemoe.cloud import Budget, Ledger
from edgemoe.cloud.book import Book, pack


def test_money_is_counted_by_day(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "ledger.json")
    assert ledger.spent() == 0
    assert ledger.left(Budget(1.5)) == 1.5
    ledger.add("far", 0.25)
    ledger.add("near", 0.125)
    ledger.add("far", 0.25)
    assert Ledger(ledger.path).by_endpoint() == {"far": 0.5, "near": 0.125}
    assert ledger.spent() == 0.625
    assert ledger.left(Budget(1.5)) == 0.875
    assert ledger.left(Budget(0.5)) == 0
    assert ledger.path.stat().st_mode & 0o077 == 0
    for cost in (-1.0, float("nan"), float("inf")):
        with pytest.raises(EdgeMoEError, match="a cost must be"):
            ledger.add("far", cost)


def test_a_damaged_ledger_is_not_replaced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json")
    ledger.add("far", 0.25)
    whole = ledger.path.read_bytes()
    for damaged in (b"", whole[:-20], whole.replace(b"0.25", b"0.05"), b"[]", b"\xff", b'{"format": 1, "days": []}'):
        ledger.path.write_bytes(damaged)
        for use in (lambda: ledger.add("far", 1.0), ledger.spent, lambda: ledger.left(Budget(1))):
            with pytest.raises(ReadError, match="ledger.json is damaged .* move it away"):
                use()
        assert ledger.path.read_bytes() == damaged
    ledger.path.write_bytes(whole)
    assert ledger.spent() == 0.25


HIDDEN = """
import sys
from edgemoe.cloud import Budget, Ledger
ledger = Ledger(sys.argv[1])
kept = ledger.reserve("far", Budget(1.0), lambda left: (0.125, 0.5))
print(ledger.left(Budget(1.0)))
ledger.settle(kept, 0.25)
print(ledger.left(Budget(1.0)))
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="hides /proc, which needs root")
def test_money_is_reserved_where_proc_is_hidden(tmp_path: Path) -> None:
    """Nobody can be seen there, but whoever has reserved is not taken for dead."""
    hide = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && "$@"', "sh"]
    command = [*hide, sys.executable, "-c", HIDDEN, str(tmp_path / "ledger.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["0.5", "0.75"]), done.stderr


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        Ledger(tmp_path / "file" / "ledger.json").add("far", 1.0)
    (tmp_path / "ledger.json").mkdir()
    with pytest.raises(ReadError):
        Ledger(tmp_path / "ledger.json").spent()


ADDS = """
import sys
from edgemoe.cloud import Budget, Ledger
from edgemoe.cloud.book import Book, pack
ledger = Ledger(sys.argv[1])
for i in range(int(sys.argv[2])):
    ledger.add("far", 0.5)
    print("counted", flush=True)
"""


def test_processes_share_a_ledger_and_may_be_killed(tmp_path: Path) -> None:
    """What was counted stays counted: one more at most for each process that was killed while it counted."""
    path = tmp_path / "ledger.json"

    def start(times: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", ADDS, str(path), str(times)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    whole, doomed = [start(40) for _ in range(2)], [start(1_000_000) for _ in range(3)]
    for i, process in enumerate(doomed):
        assert process.stdout is not None
        process.stdout.readline()  # it is at work
        time.sleep(0.1 * i)
        process.send_signal(signal.SIGKILL)
    counted = sum(len(p.communicate()[0].splitlines()) for p in (*whole, *doomed)) + len(doomed)
    assert all(p.returncode == 0 for p in whole)
    assert 0 <= Ledger(path).spent() / 0.5 - counted <= len(doomed)
    Ledger(path).add("far", 0.5)  # no lock was left behind


def test_a_week_begins_on_monday_and_a_month_on_the_first(tmp_path: Path) -> None:
    today = datetime.date.today()
    days = [today + datetime.timedelta(n) for n in range(-70, 71)]
    ledger = Ledger(tmp_path / "ledger.json")
    ledger.path.write_bytes(pack(Book({day.isoformat(): {"far": 2.0**-9, "near": 2.0**-9} for day in days})))

    def counted(unit: str) -> float:
        return ledger.spent(Budget(9, unit)) * 2**8

    assert counted("day") == 1
    assert counted("week") == 7
    assert counted("month") == sum((day.year, day.month) == (today.year, today.month) for day in days)
    assert ledger.by_endpoint(Budget(9, "week")) == {"far": 7 / 2**9, "near": 7 / 2**9}
    assert ledger.left(Budget(1, "week")) == 1 - 7 / 2**8
    sunday, monday = datetime.date(2026, 3, 1), datetime.date(2026, 3, 2)
    assert not Budget(1, "week").covers(sunday, monday)
    assert Budget(1, "month").covers(sunday, monday)
    assert Budget(1, "week").covers(datetime.date(2025, 12, 29), datetime.date(2026, 1, 4))  # one week of two years
    assert not Budget(1, "month").covers(datetime.date(2025, 3, 1), sunday)


def test_money_is_reserved_and_settled(tmp_path: Path) -> None:
    ledger, budget = Ledger(tmp_path / "ledger.json"), Budget(1.0, "week")
    first = ledger.reserve("far", budget, lambda left: (0.125, left / 2))
    second = Ledger(ledger.path).reserve("far", budget, lambda left: (0.0, left / 2))
    assert (first.most, second.most) == (0.5, 0.25)
    assert (ledger.reserved(), ledger.left(budget), ledger.spent()) == (0.75, 0.25, 0.0)
    with pytest.raises(EdgeMoEError, match="the budget of 1/week has 0.25 left, not 0.3"):
        ledger.reserve("far", budget, lambda left: (0.0, 0.3))
    with pytest.raises(ZeroDivisionError):
        ledger.reserve("far", budget, lambda left: (1 / 0, 0.0))
    first = ledger.note(first, 0.75)  # more than was allowed
    assert ledger.left(budget) == 0.0
    ledger.settle(first, 0.375)
    assert (ledger.reserved(), ledger.left(budget), ledger.spent()) == (0.25, 0.375, 0.375)
    ledger.settle(second, 0.0)
    assert (ledger.reserved(), ledger.left(budget), ledger.spent()) == (0.0, 0.625, 0.375)


def test_a_ledger_from_before_reservations_is_read(tmp_path: Path) -> None:
    days = {datetime.date.today().isoformat(): {"far": 0.25}}
    checksum = f"{zlib.crc32(json.dumps(days, sort_keys=True).encode()):08x}"
    ledger = Ledger(tmp_path / "ledger.json")
    ledger.path.write_text(json.dumps({"format": 1, "days": days, "checksum": checksum}))
    assert ledger.spent() == 0.25
    ledger.settle(ledger.reserve("far", Budget(1), lambda left: (0.0, left)), 0.5)
    assert ledger.spent() == 0.75


HOLDS = """
import sys, time
from edgemoe.cloud import Budget, Ledger
ledger = Ledger(sys.argv[1])
found = ledger.reserve("far", Budget(1.0), lambda left: (0.0625, 0.75))
print("reserved", flush=True)
sys.stdin.readline()
ledger.note(found, 0.25)
print("noted", flush=True)
time.sleep(1000)
"""


def test_a_killed_process_leaves_what_its_request_is_known_to_have_cost(tmp_path: Path) -> None:
    ledger, budget = Ledger(tmp_path / "ledger.json"), Budget(1.0)
    command = [sys.executable, "-c", HOLDS, str(ledger.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "reserved\n"
            assert (ledger.left(budget), ledger.spent()) == (0.25, 0.0)
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "noted\n"
            assert (ledger.left(budget), ledger.spent()) == (0.25, 0.0)
        finally:
            os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and nobody has waited for it yet
        assert (ledger.left(budget), ledger.spent(), ledger.reserved()) == (0.75, 0.25, 0.0)
    assert (ledger.left(budget), ledger.spent()) == (0.75, 0.25)
    ledger.add("far", 0.125)
    assert (ledger.left(budget), ledger.by_endpoint()) == (0.625, {"far": 0.375})


def test_another_process_with_the_same_number_keeps_nothing_reserved(tmp_path: Path) -> None:
    ledger, budget = Ledger(tmp_path / "ledger.json"), Budget(1.0)
    found = ledger.reserve("far", budget, lambda left: (0.25, 0.5))
    book = ledger._read()
    book.reserved[found.id] = dataclasses.replace(found, started=found.started - 3600)
    ledger.path.write_bytes(pack(book))
    assert (ledger.left(budget), ledger.spent()) == (0.75, 0.25)
    ledger.settle(found, 0.375)  # it did live, where its number could not be seen: what was counted counts once
    assert (ledger.left(budget), ledger.spent()) == (0.625, 0.375)


RACES = """
import sys, threading
from edgemoe import EdgeMoEError
from edgemoe.cloud import Budget, Ledger
ledger, budget = Ledger(sys.argv[1]), Budget(1.0)
def wanted(left):
    if left < 2**-6:
        raise EdgeMoEError("nothing is left")
    return 0.0, 2**-6
def spend():
    for i in range(20):
        try:
            found = ledger.reserve("far", budget, wanted)
        except EdgeMoEError:
            return
        kept = ledger.spent() + ledger.reserved() <= 1.0
        ledger.settle(found, 2**-6 if i % 2 else 2**-7)
        print("kept" if kept else "overspent", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=spend) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_processes_that_race_for_the_last_money_stay_inside_the_budget(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    command = [sys.executable, "-c", RACES, str(path)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [""] * len(racers)

    def run(i: int) -> None:
        said[i] = racers[i].communicate("\n")[0]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(racers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(racer.returncode == 0 for racer in racers)
    assert all("kept" in each and "overspent" not in each for each in said)
    ledger = Ledger(path)
    assert 1 - 2**-6 < ledger.spent() <= 1.0
    assert ledger.reserved() == 0
