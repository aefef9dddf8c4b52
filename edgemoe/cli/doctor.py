"""`edgemoe doctor`: whether this machine is ready, what limits it, and what would help most."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.planning.limits import Limit
    from edgemoe.planning.surroundings import Finding

_SLOW_DISK = 200e6  # bytes per second: a hard disk, or a network


@click.command(short_help="Check this installation, and say what limits its speed.")
@click.argument("model", required=False, type=options.MODEL_FILE)
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False),
    help="Measure the disk of this folder.  [default: .]",
)
@options.as_json
def command(model: str | None, directory: str | None, as_json: bool) -> None:
    """Check that edgemoe can run here, and say what limits its speed and what would help most.

    The disk is that on which MODEL lies; without MODEL, a temporary file of 256 MiB is written to the folder and
    removed again, and speeds are those of a model such as Qwen3-30B-A3B. The exit code is 1 when there is a problem.

    Example: edgemoe doctor model.gguf
    """
    from edgemoe.cli.console import print_json, working

    if model and directory:
        raise click.UsageError("name a MODEL or a --dir, not both")
    limits: list[Limit] = []
    with working("looking at this machine"):
        findings, speed = _examine(Path(model or directory or "."))
        if speed:
            with suppress(EdgeMoEError):  # the findings say what is wrong
                limits = _limits(model, speed)
    problems = [finding for finding in findings if not finding.ok]
    if as_json:
        found = [asdict(finding) for finding in findings]
        told = [asdict(limit) | {"gain": limit.gain if isfinite(limit.gain) else None} for limit in limits]
        print_json({"ok": not problems, "findings": found, "limits": told})
    else:
        _print(findings, limits, model)
    if problems:
        click.get_current_context().exit(1)


def _print(findings: list[Finding], limits: list[Limit], model: str | None) -> None:
    from edgemoe.cli.console import console

    screen = console()
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = ("!!", "bold red") if not finding.ok else ("->", "yellow") if finding.advice else ("ok", "green")
        screen.print(f"[{style}]{mark}[/]  {finding.name:<{width}}  ", end="")
        screen.print(finding.value + (f"; {finding.advice}" if finding.advice else ""), markup=False, soft_wrap=True)
    problems = sum(not finding.ok for finding in findings)
    if limits:
        name = Path(model).name if model else "a model such as Qwen3-30B-A3B"
        screen.print(f"\nwhat would help {name} most:", markup=False, soft_wrap=True)
        for number, limit in enumerate(limits, 1):
            gain = f"{limit.gain:.1f}x the speed" if isfinite(limit.gain) else "it would run"
            screen.print(
                f"{number}.  {limit.name}: {limit.value}; {gain} with {limit.better}", markup=False, soft_wrap=True
            )
    screen.print("ok" if not problems else f"problems: {problems}", style="bold")


def _examine(disk: Path) -> tuple[list[Finding], float | None]:
    """What was found, and the speed of the disk in bytes per second, if there is what to plan with."""
    from edgemoe.cli.console import quiet_library
    from edgemoe.planning import surroundings

    speeds: list[float] = []
    dies = surroundings.library_finding()
    if not dies:
        quiet_library()
    library: dict[str, Callable[[], str | Finding | None]] = {"backend": _backend, "kernels": _kernels}
    checks: dict[str, Callable[[], str | Finding | None]] = {
        "processor": _processor,
        "llama-cpp-python": _library,
        **({"backend": lambda: dies} if dies else library),
        "CPU quota": surroundings.quota_finding,
        "memory": surroundings.memory_finding,
        "swap": surroundings.swap_finding,
        "/proc": surroundings.proc_finding,
        "your folders": surroundings.folders_finding,
        "default model": _default_model,
        "file system": lambda: surroundings.filesystem_finding(disk),
        "disk": lambda: _disk(disk, speeds),
    }
    found = [_finding(name, check) for name, check in checks.items()]
    return [finding for finding in found if finding], speeds[0] if speeds and not dies else None


def _limits(model: str | None, disk: float) -> list[Limit]:
    """Raises EdgeMoEError where the machine cannot be measured, or the model is none to plan."""
    from edgemoe.planning.forecast import Forecaster
    from edgemoe.planning.kept import this_machine
    from edgemoe.planning.limits import find_limits, typical_speed
    from edgemoe.planning.locality import default_curve

    here = this_machine(model or ".", disk=disk)
    if model is None:
        return find_limits(here, typical_speed)
    with Forecaster(model, default_curve) as forecaster:
        largest = forecaster.budget_for(1.0)
        return find_limits(here, lambda other: forecaster.forecast(other, min(other.spare_memory, largest)).token)


def _finding(name: str, check: Callable[[], str | Finding | None]) -> Finding | None:
    from edgemoe.planning.surroundings import Finding

    try:
        found = check()
    except (EdgeMoEError, ImportError, OSError) as error:
        return Finding(name, str(error), ok=False)
    return Finding(name, found) if isinstance(found, str) else found


def _library() -> str:
    from edgemoe.experts import library

    return library.installed_version()


def _backend() -> str:
    from edgemoe.experts import library

    library.load()
    from edgemoe import _native

    return f"loaded, ggml {_native.library_version()}"


def _processor() -> Finding:
    from edgemoe import _native
    from edgemoe.planning.surroundings import features_finding

    return features_finding(_native.cpu_features(), platform.machine())


def _kernels() -> str:
    """What the installed llama.cpp was built to use and this processor has."""
    import llama_cpp

    parts = llama_cpp.llama_print_system_info().decode(errors="replace").replace("CPU :", "").split("|")
    return " ".join(part.split("=")[0].strip() for part in parts if part.strip().endswith("= 1"))


def _default_model() -> str:
    from edgemoe.default_model import default_model_path

    return str(default_model_path())


def _disk(path: Path, speeds: list[float]) -> Finding:
    """Adds its speed to `speeds`."""
    from edgemoe.bench.disk import READ_LENGTH, measure_disk
    from edgemoe.planning.surroundings import Finding

    speed = measure_disk(path)
    speeds.append(speed.many_readers)
    value = (
        f"{speed.many_readers / 1e6:.0f} MB/s in random reads of {format_size(READ_LENGTH)} with 8 readers, "
        f"{speed.one_reader / 1e6:.0f} MB/s with one, {speed.latency * 1e3:.2f} ms for a read of 4 KiB"
    )
    slow = speed.many_readers < _SLOW_DISK
    return Finding("disk", value, "slow: put models on an SSD" if slow else "")
