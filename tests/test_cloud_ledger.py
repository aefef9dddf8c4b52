"""The ledger of what cloud answers cost: shared by processes, damaged, killed."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgemoe import EdgeMoEError, ReadError, WriteError
from edgemoe.cloud import Ledger


def test_money_is_counted_by_day(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "ledger.json")
    assert ledger.spent() == 0
    assert ledger.left(1.5) == 1.5
    ledger.add("far", 0.25)
    ledger.add("near", 0.125)
    ledger.add("far", 0.25)
    assert Ledger(ledger.path).by_endpoint() == {"far": 0.5, "near": 0.125}
    assert ledger.spent() == 0.625
    assert ledger.left(1.5) == 0.875
    assert ledger.left(0.5) == 0
    assert ledger.spent(datetime.date.today() - datetime.timedelta(1)) == 0
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
        for use in (lambda: ledger.add("far", 1.0), ledger.spent, lambda: ledger.left(1.0)):
            with pytest.raises(ReadError, match="ledger.json is damaged .* move it away"):
                use()
        assert ledger.path.read_bytes() == damaged
    ledger.path.write_bytes(whole)
    assert ledger.spent() == 0.25


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError):
        Ledger(tmp_path / "file" / "ledger.json").add("far", 1.0)
    (tmp_path / "ledger.json").mkdir()
    with pytest.raises(ReadError):
        Ledger(tmp_path / "ledger.json").spent()


ADDS = """
import sys
from edgemoe.cloud import Ledger
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
