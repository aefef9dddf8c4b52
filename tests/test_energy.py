"""Joules per token, read from trees of real files laid out as sysfs has them."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import edgemoe.cli.bench
from edgemoe.bench.energy import Meter, counted, describe, find_sources, idle_watts
from edgemoe.bench.measure import Job, measure
from edgemoe.bench.texts import ENGLISH
from edgemoe.cli import main
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError

RANGE = 262143328850  # microjoules, of a Core i5-8250U


def write(root: Path, files: dict[str, object]) -> Path:
    for name, content in files.items():
        path = root / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def zone(name: str, label: str, energy: int = 1000, largest: int = RANGE) -> dict[str, object]:
    folder = f"powercap/{name}"
    return {f"{folder}/name": label, f"{folder}/energy_uj": energy, f"{folder}/max_energy_range_uj": largest}


@contextmanager
def rising(file: Path, step: int, wraps_at: int = 1 << 62, every: float = 0.02) -> Iterator[None]:
    """The counter grows by `step` every so many seconds, as hardware does it."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(every):
            text = str((int(file.read_text()) + step) % wraps_at)
            fresh = file.with_name("fresh")
            fresh.write_text(text)
            fresh.rename(file)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


# Which sources count


def test_packages_and_their_memory_count_once(tmp_path: Path) -> None:
    tree = zone("intel-rapl:0", "package-0") | zone("intel-rapl:0:0", "core") | zone("intel-rapl:0:1", "dram")
    tree |= zone("intel-rapl:1", "package-1") | zone("intel-rapl:1:0", "dram") | {"powercap/intel-rapl/enabled": 1}
    tree |= zone("intel-rapl-mmio:0", "package-0")
    names = describe(find_sources(write(tmp_path, tree)))
    assert names == "RAPL package-0, RAPL dram, RAPL package-1, RAPL dram"


def test_the_platform_counter_counts_alone(tmp_path: Path) -> None:
    tree = zone("intel-rapl:0", "package-0") | zone("intel-rapl:1", "psys")
    assert describe(find_sources(write(tmp_path, tree))) == "RAPL psys"


def test_a_counter_that_begins_anew(tmp_path: Path) -> None:
    assert counted(5.0, 7.0, 10.0) == 2.0
    assert counted(9.0, 2.0, 10.0) == 3.0
    root = write(tmp_path, zone("intel-rapl:0", "package-0", energy=RANGE - 1_999_999))
    meter = Meter(find_sources(root))
    (root / "class/powercap/intel-rapl:0/energy_uj").write_text("3000000\n")
    assert meter.stop() == pytest.approx(5.0)


def test_a_counter_that_begins_anew_many_times_is_watched(tmp_path: Path) -> None:
    root = write(tmp_path, zone("intel-rapl:0", "package-0", 0, largest=9_999_999))
    meter = Meter(find_sources(root))
    with rising(root / "class/powercap/intel-rapl:0/energy_uj", 500_000, 10_000_000):  # 25 W; anew every 0.4 s
        time.sleep(1.5)
    joules = meter.stop()
    assert joules > 15  # more than the counter can hold
    assert joules % 0.5 == pytest.approx(0, abs=1e-6) or joules % 0.5 == pytest.approx(0.5, abs=1e-6)


def test_boards_with_a_chip_that_multiplies_or_does_not(tmp_path: Path) -> None:
    tree = {"hwmon/hwmon0/name": "cpu_thermal", "hwmon/hwmon0/temp1_input": 50000}
    tree |= {"hwmon/hwmon1/name": "ina219", "hwmon/hwmon1/in1_input": 5000, "hwmon/hwmon1/curr1_input": 1500}
    root = write(tmp_path / "a", tree)
    assert idle_watts(find_sources(root), 0.1) == pytest.approx(7.5, rel=0.05)
    root = write(tmp_path / "b", tree | {"hwmon/hwmon1/power1_input": 8_000_000})
    assert idle_watts(find_sources(root), 0.1) == pytest.approx(8.0, rel=0.05)


def test_the_sensor_of_the_whole_board_counts_alone(tmp_path: Path) -> None:
    tree: dict[str, object] = {"hwmon/hwmon2/name": "ina3221", "hwmon/hwmon0/name": "amdgpu"}
    tree["hwmon/hwmon0/power1_average"] = 30_000_000
    for number, (label, milliamperes) in enumerate([("VDD_IN", 1000), ("VDD_CPU_GPU_CV", 300), ("VDD_SOC", 200)], 1):
        base = f"hwmon/hwmon2/{{}}{number}_{{}}"
        tree |= {base.format("in", "label"): label, base.format("in", "input"): 5000}
        tree[base.format("curr", "input")] = milliamperes
    sources = find_sources(write(tmp_path, tree))
    assert describe(sources) == "ina3221 VDD_IN"
    assert idle_watts(sources, 0.1) == pytest.approx(5.0, rel=0.05)


def test_what_goes_into_a_power_supply_does_not_count_again_when_it_comes_out(tmp_path: Path) -> None:
    """Labels as PMBus drivers of the kernel give them."""
    base = "hwmon/hwmon3/"
    tree: dict[str, object] = {base + "name": "pfe3000"}
    labels = [("power1", "pin"), ("power2", "pout1"), ("power3", "pout2"), ("in1", "vin"), ("in2", "vout1")]
    labels += [("in4", "vout3"), ("curr1", "iin"), ("curr2", "iout1"), ("curr4", "iout3")]
    tree |= {f"{base}{sensor}_label": label for sensor, label in labels}
    tree |= {f"{base}{sensor}_input": 1_000_000 if sensor.startswith("power") else 1000 for sensor, _ in labels}
    tree[base + "power1_input"] = 110_000_000
    sources = find_sources(write(tmp_path / "a", tree))
    assert describe(sources) == "pfe3000 pin"
    assert idle_watts(sources, 0.1) == pytest.approx(110.0, rel=0.05)
    out = {name: value for name, value in tree.items() if not re.search(r"power1_|in1_|curr1_", name)}
    assert describe(find_sources(write(tmp_path / "b", out))) == "pfe3000 pout1, pfe3000 pout2"
    volts = {name: value for name, value in tree.items() if "/power" not in name}
    assert describe(find_sources(write(tmp_path / "c", volts))) == "pfe3000 vin"


def test_the_sum_and_the_shunts_of_an_ina3221_are_no_rails(tmp_path: Path) -> None:
    tree: dict[str, object] = {"hwmon/hwmon2/name": "ina3221"}
    for number in (1, 2, 3):
        rail = {"in": 5000, "curr": 100 * number}
        tree |= {f"hwmon/hwmon2/{kind}{number}_input": value for kind, value in rail.items()}
        tree[f"hwmon/hwmon2/in{number + 3}_input"] = 40  # of the shunt
    tree |= {"hwmon/hwmon2/curr4_input": 600, "hwmon/hwmon2/in7_input": 120}
    sources = find_sources(write(tmp_path, tree))
    assert describe(sources) == "ina3221 rail 1, ina3221 rail 2, ina3221 rail 3"
    assert idle_watts(sources, 0.1) == pytest.approx(3.0, rel=0.05)


def battery(state: str, **files: int) -> dict[str, object]:
    return {f"power_supply/BAT0/{name}": value for name, value in {"type": "Battery", "status": state, **files}.items()}


def test_a_battery_in_use_tells_power_or_volts_and_amperes(tmp_path: Path) -> None:
    mouse = {"power_supply/hid/type": "Battery", "power_supply/hid/scope": "Device", "power_supply/AC/type": "Mains"}
    root = write(tmp_path / "a", battery("Discharging", power_now=9_500_000) | mouse)
    assert idle_watts(find_sources(root), 0.1) == pytest.approx(9.5, rel=0.05)
    root = write(tmp_path / "b", battery("Discharging", voltage_now=12_000_000, current_now=-1_000_000))
    assert idle_watts(find_sources(root), 0.1) == pytest.approx(12.0, rel=0.05)


# Where there is none


def test_nothing_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(EdgeMoEError, match=r"not available here: no RAPL counter .*; no power sensor .*; no battery"):
        find_sources(tmp_path)


def test_a_second_view_alone_is_no_counter(tmp_path: Path) -> None:
    with pytest.raises(EdgeMoEError, match="not available here: only intel-rapl-mmio in .*; no power sensor"):
        find_sources(write(tmp_path, zone("intel-rapl-mmio:0", "package-0")))


def test_a_battery_that_charges_is_no_meter(tmp_path: Path) -> None:
    with pytest.raises(EdgeMoEError, match="BAT0 is not in use .Charging.: unplug"):
        find_sources(write(tmp_path, battery("Charging", power_now=9_500_000)))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_counter_for_root_alone_says_what_to_set() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), zone("intel-rapl:0", "package-0"))
        root.chmod(0o755)
        (root / "class/powercap/intel-rapl:0/energy_uj").chmod(0o400)
        os.seteuid(65534)
        try:
            with pytest.raises(EdgeMoEError, match="energy_uj may be read by root only: run as root, or chmod a.r it"):
                find_sources(root)
        finally:
            os.seteuid(0)


# In a benchmark


def job(root: Path) -> Job:
    return Job("100%", str(default_model_path()), None, 8, 12, 1, 64, ENGLISH, threads=1, energy=str(root))


def test_joules_of_decoded_tokens(tmp_path: Path) -> None:
    root = write(tmp_path, zone("intel-rapl:0", "package-0"))
    with rising(root / "class/powercap/intel-rapl:0/energy_uj", 10_000, every=0.001):
        result = measure(job(root))
    assert result.error is None
    assert result.joules_per_token is not None
    assert result.joules_per_token > 0
    root = write(tmp_path / "still", zone("intel-rapl:0", "package-0"))
    assert measure(job(root)).joules_per_token == 0


def bench(*arguments: str) -> int:
    short = ("--prompt-tokens", "8", "--tokens", "40", "--repeat", "1", "--threads", "1", "--energy")
    with pytest.raises(SystemExit) as ended:
        main(["bench", str(default_model_path()), *short, *arguments])
    return int(str(ended.value.code))


def test_the_table_has_joules_with_and_without_idling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path, battery("Discharging", power_now=10_000_000))
    monkeypatch.setattr(edgemoe.cli.bench, "SYSFS", root)
    monkeypatch.setattr(edgemoe.cli.bench, "_IDLE_SECONDS", 0.1)
    assert bench("-o", "json") == 0
    shown = capsys.readouterr()
    assert re.search(r"battery BAT0, (10|9\.\d)[\d.]* W before anything ran", shown.err)
    (result,) = json.loads(shown.out)
    assert result["joules_per_token"] == pytest.approx(10 / result["decode_tps"], rel=0.3)
    assert bench() == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[-3:] == ["J/token", "above", "idle"]
    assert float(table[1].split()[-1]) < 0.3 * float(table[1].split()[-2])  # it takes no more than when idle


def test_a_benchmark_goes_on_without_energy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(edgemoe.cli.bench, "SYSFS", tmp_path)
    assert bench() == 0
    shown = capsys.readouterr()
    assert "energy is not available here: no RAPL counter" in shown.err
    assert "J/token" not in shown.out
