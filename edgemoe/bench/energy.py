"""Energy that the machine tells: RAPL counters, power sensors of boards, or a battery that is being used.

RAPL: https://docs.kernel.org/power/powercap/powercap.html; sensors: https://docs.kernel.org/hwmon/sysfs-interface.html;
batteries: https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgemoe.errors import EdgeMoEError

SYSFS = Path("/sys")
_EVERY = 0.2
"""Seconds between two looks: power is summed up, and a counter must not begin anew twice between them."""
_MICRO = 1e-6
_TOTALS = re.compile(r"vdd_in|total|psys|pom_5v_in|system", re.IGNORECASE)
"""Labels of sensors that measure what the others measure parts of."""
_PARTS = re.compile(r"amdgpu|radeon|nouveau|i915|xe|nvme|coretemp|k10temp|acpitz|bat", re.IGNORECASE)
"""Chips that measure one device of the machine, or a battery that is asked in its own folder."""

_SUPPLIES = [re.compile(pattern) for pattern in (r"pin\d*", r"[vi]in\d*", r"pout\d*", r"[vi]out\d*")]
"""Labels of power supplies and regulators (PMBus), the first ones preferred: what goes in comes out again."""
_RAILS = {"ina3221": ("1", "2", "3")}
"""Chips with numbers that are no rails: here in4 to in6 are voltages of shunts, and curr4 is a sum."""


@dataclass(frozen=True)
class Source:
    """Something that measures. `joules` (a counter that begins anew at `wraps_at`) or `watts` reads it now."""

    name: str
    joules: Callable[[], float] | None = None
    watts: Callable[[], float] | None = None
    wraps_at: float = 0.0


def find_sources(root: Path = SYSFS) -> list[Source]:
    """What measures this machine, each part once; `root` is where sysfs is.

    Raises:
        EdgeMoEError: nothing does; the message has the reasons.
    """
    reasons: list[str] = []
    for kind in (_counters, _sensors, _batteries):
        found, reason = kind(root)
        if found:
            return found
        reasons.append(reason)
    raise EdgeMoEError("energy is not available here: " + "; ".join(reasons))


# RAPL


def _counters(root: Path) -> tuple[list[Source], str]:
    """Packages and their memory; or the whole platform alone, where it has a counter (psys)."""
    folder = root / "class/powercap"
    zones = sorted(zone for zone in folder.glob("*-rapl*:*") if (zone / "energy_uj").exists())
    if not zones:
        return [], f"no RAPL counter in {folder} (a virtual machine, or a processor without)"
    names = {zone: _text(zone / "name") or zone.name for zone in zones if not zone.name.startswith("intel-rapl-mmio")}
    if not names:
        return [], f"only intel-rapl-mmio in {folder}, a second view of RAPL counters that are missing themselves"
    whole = [zone for zone, name in names.items() if name == "psys"]
    parts = [zone for zone, name in names.items() if name.startswith("package") or name == "dram"]
    sources = []
    for zone in whole or parts or list(names):
        try:
            _number(zone / "energy_uj")
        except PermissionError:
            return [], f"{zone / 'energy_uj'} may be read by root only: run as root, or chmod a+r it"
        except (OSError, ValueError) as error:
            return [], f"{zone / 'energy_uj'} cannot be read: {error}"
        sources.append(_counter(zone, names[zone]))
    return sources, ""


def _counter(zone: Path, name: str) -> Source:
    try:
        largest = (_number(zone / "max_energy_range_uj") + 1) * _MICRO
    except (OSError, ValueError):
        largest = (1 << 32) * _MICRO
    return Source(f"RAPL {name}", joules=lambda: _number(zone / "energy_uj") * _MICRO, wraps_at=largest)


# Sensors of boards


def _sensors(root: Path) -> tuple[list[Source], str]:
    folder = root / "class/hwmon"
    found: list[tuple[str, Source]] = []
    for chip in sorted(folder.glob("hwmon*")):
        name = _text(chip / "name") or chip.name
        if not _PARTS.match(name):
            found += [(label, Source(f"{name} {label}", watts=read)) for label, read in _powers(chip, name)]
    found = [one for one in found if _readable(one[1])]
    totals = [source for label, source in found if _TOTALS.search(label)]
    return totals[:1] or [source for _, source in found], f"no power sensor of a board in {folder}"


def _powers(chip: Path, name: str) -> list[tuple[str, Callable[[], float]]]:
    """Power in microwatts, or volts (mV) times amperes (mA) where the chip does not multiply; each part once."""
    found: dict[str, tuple[str, Callable[[], float]]] = {}
    for file in sorted(chip.glob("curr*_input")):
        number = file.name.removeprefix("curr").removesuffix("_input")
        if (chip / f"in{number}_input").exists():
            label = _text(chip / f"in{number}_label") or _text(chip / f"curr{number}_label") or f"rail {number}"
            found[number] = label, _product(chip / f"in{number}_input", file, _MICRO)
    for file in sorted([*chip.glob("power*_average"), *chip.glob("power*_input")]):
        number = re.sub(r"\D", "", file.name)
        label = _text(chip / f"power{number}_label") or found.get(number, (f"power {number}",))[0]
        found[number] = label, _scaled(file, _MICRO)
    powers = [power for number, power in found.items() if number in _RAILS.get(name, found)]
    for supply in _SUPPLIES:
        if one_side := [power for power in powers if supply.fullmatch(power[0])]:
            return one_side
    return powers


# Batteries


def _batteries(root: Path) -> tuple[list[Source], str]:
    folder = root / "class/power_supply"
    reason = f"no battery in {folder}"
    sources = []
    for battery in sorted(folder.glob("*")):
        if _text(battery / "type") != "Battery" or _text(battery / "scope") == "Device":  # a mouse's
            continue
        state = _text(battery / "status") or "unknown"
        if state != "Discharging":
            reason = f"the battery {battery.name} is not in use ({state}): unplug the charger to measure"
            continue
        source = Source(f"battery {battery.name}", watts=_battery_power(battery))
        if _readable(source):
            sources.append(source)
        else:
            reason = f"the battery {battery.name} tells neither power nor current"
    return sources, reason


def _battery_power(battery: Path) -> Callable[[], float]:
    if (battery / "power_now").exists():
        return _scaled(battery / "power_now", _MICRO)
    return _product(battery / "voltage_now", battery / "current_now", _MICRO * _MICRO)


# Measuring


class Meter:
    """Sums the joules of `sources` from when it is made until `stop`, looking every 0.2 s on a thread of its own."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources
        self._lock = threading.Lock()
        self._joules = 0.0
        self._time = time.perf_counter()
        self._last = [_now(source) for source in sources]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgemoe-energy", daemon=True)
        self._thread.start()

    def joules(self) -> float:
        """So far."""
        with self._lock:
            now, passed = time.perf_counter(), self._time
            self._time = now
            for i, source in enumerate(self._sources):
                value = _now(source)
                if source.joules is not None:
                    self._joules += counted(self._last[i], value, source.wraps_at)
                else:
                    self._joules += (self._last[i] + value) / 2 * (now - passed)
                self._last[i] = value
            return self._joules

    def stop(self) -> float:
        """Joules in all."""
        self._stopping.set()
        self._thread.join()
        return self.joules()

    def _run(self) -> None:
        with suppress(EdgeMoEError):  # `stop` raises it again, if it stays
            while not self._stopping.wait(_EVERY):
                self.joules()


def counted(before: float, after: float, wraps_at: float) -> float:
    """Growth of a counter that begins anew at `wraps_at`."""
    return after - before if after >= before else after + wraps_at - before


def idle_watts(sources: list[Source], seconds: float) -> float:
    """What the machine takes while this process sleeps for `seconds`."""
    began, meter = time.perf_counter(), Meter(sources)
    time.sleep(seconds)
    return meter.stop() / (time.perf_counter() - began)


def describe(sources: list[Source]) -> str:
    """What measures, for people."""
    return ", ".join(source.name for source in sources)


def _now(source: Source) -> float:
    read = source.joules or source.watts
    assert read is not None
    try:
        return read()
    except (OSError, ValueError) as error:
        raise EdgeMoEError(f"{source.name} cannot be read any more: {error}") from error


def _readable(source: Source) -> bool:
    try:
        _now(source)
    except EdgeMoEError:
        return False
    return True


def _scaled(file: Path, scale: float) -> Callable[[], float]:
    return lambda: abs(_number(file)) * scale


def _product(volts: Path, amperes: Path, scale: float) -> Callable[[], float]:
    return lambda: abs(_number(volts) * _number(amperes)) * scale


def _number(file: Path) -> int:
    return int(file.read_text())


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
