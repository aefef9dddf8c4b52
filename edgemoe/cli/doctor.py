"""`edgemoe doctor`: whether this machine is ready, and what to expect of it."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError
from edgemoe.sizes import format_size

_SLOW_DISK = 200e6  # bytes per second: a hard disk, or a network


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `ok` is False when something must be done about it."""

    name: str
    value: str
    ok: bool = True


@click.command()
@click.argument("model", required=False, type=options.MODEL_FILE)
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False),
    help="Measure the disk of this folder.  [default: .]",
)
@options.as_json
def command(model: str | None, directory: str | None, as_json: bool) -> None:
    """Check that edgemoe can run here, and measure the disk on which MODEL lies.

    Without MODEL, a temporary file of 256 MiB is written to the folder and removed again. The exit code is 1 when there
    is a problem.
    """
    from edgemoe.cli.console import console, print_json, quiet_library, working

    if model and directory:
        raise click.UsageError("name a MODEL or a --dir, not both")
    with working("looking at this machine"):
        quiet_library()
        findings = _examine(Path(model or directory or "."))
    problems = [finding for finding in findings if not finding.ok]
    if as_json:
        print_json({"ok": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        screen = console()
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            mark, style = ("ok", "green") if finding.ok else ("!!", "bold red")
            screen.print(f"[{style}]{mark}[/]  {finding.name:<{width}}  ", end="")
            screen.print(finding.value, markup=False, soft_wrap=True)
        screen.print("ok" if not problems else f"problems: {len(problems)}", style="bold")
    if problems:
        click.get_current_context().exit(1)


def _examine(disk: Path) -> list[Finding]:
    checks: dict[str, Callable[[], str | Finding]] = {
        "llama-cpp-python": _library,
        "backend": _backend,
        "processor": _processor,
        "kernels": _kernels,
        "memory": _memory,
        "default model": _default_model,
        "disk": lambda: _disk(disk),
    }
    return [_finding(name, check) for name, check in checks.items()]


def _finding(name: str, check: Callable[[], str | Finding]) -> Finding:
    try:
        found = check()
    except (EdgeMoEError, ImportError) as error:
        return Finding(name, str(error), ok=False)
    return found if isinstance(found, Finding) else Finding(name, found)


def _library() -> str:
    from edgemoe.experts import library

    return library.installed_version()


def _backend() -> str:
    from edgemoe.experts import library

    library.load()
    from edgemoe import _native

    return f"loaded, ggml {_native.library_version()}"


def _processor() -> str:
    from edgemoe import _native, machine

    features = " ".join(_native.cpu_features()) or "no vector extensions that matter here"
    return f"{machine.processors()} cores, {features}"


def _kernels() -> str:
    """What the installed llama.cpp was built to use and this processor has."""
    import llama_cpp

    parts = llama_cpp.llama_print_system_info().decode(errors="replace").replace("CPU :", "").split("|")
    return " ".join(part.split("=")[0].strip() for part in parts if part.strip().endswith("= 1"))


def _memory() -> str:
    import psutil

    from edgemoe import machine

    total, physical = machine.total_memory(), psutil.virtual_memory().total
    limit = f", limited by a control group ({format_size(physical)} in the machine)" if total < physical else ""
    return (
        f"{format_size(total)}{limit}, {format_size(machine.available_memory())} available, "
        f"pages of {format_size(mmap.PAGESIZE)}"
    )


def _default_model() -> str:
    from edgemoe.default_model import default_model_path

    return str(default_model_path())


def _disk(path: Path) -> Finding:
    from edgemoe.bench.disk import READ_LENGTH, measure_disk

    speed = measure_disk(path)
    value = (
        f"{speed.many_readers / 1e6:.0f} MB/s in random reads of {format_size(READ_LENGTH)} with 8 readers, "
        f"{speed.one_reader / 1e6:.0f} MB/s with one"
    )
    slow = speed.many_readers < _SLOW_DISK
    return Finding("disk", value + ": slow, put models on an SSD" * slow, ok=True)
