"""A model on a small machine: one core, little memory and no swap, the reads of an SD card; beside stock llama.cpp.

    python tools/small_machine.py MODEL --text english.txt --memory 1126MiB --ctx 2048 --tokens 24 --stock

Each program runs in control groups of version 1 (root): memory with the page cache (--memory), a core, and a disk of
--disk bytes and --reads reads a second. edgemoe is given --slack less than the group has, for what the kernel keeps for
the process. It prints the peak of the group, the peak of the process and tokens a second. A program that does not
finish in --timeout seconds is ended: it is slower than that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from compare_limits import tokens_of
from control_groups import CORES, DISK, MEMORY, cores_group, disk_group, forget_pages, memory_group, missing, run_in
from edgemoe.bench.measure import Job
from edgemoe.bench.tables import aligned
from edgemoe.errors import EdgeMoEError
from edgemoe.sizes import format_size, parse_size

WORKER = Path(__file__).with_name("forced_decode.py")
COLUMNS = ("program", "tok/s", "peak of the group", "peak of the process", "hits", "read/token", "end")


def measure(job: Job, ids: list[int], warm: int, memory: int, disk: int, reads: int, timeout: float) -> dict[str, Any]:
    """Figures of one run; `end` says how it ended."""
    forget_pages([job.model])
    request = json.dumps({"job": dataclasses.asdict(job), "ids": ids, "warm": warm})
    with contextlib.ExitStack() as stack:
        room = stack.enter_context(memory_group(memory))
        groups = [room, stack.enter_context(cores_group("0"))]
        if disk:
            groups.append(stack.enter_context(disk_group(disk, [job.model], reads)))
        try:
            done = run_in(groups, [sys.executable, str(WORKER)], stdin=request, timeout=timeout)
        except subprocess.TimeoutExpired:
            return {"end": f"not done after {timeout:.0f} s, less than {len(ids) / timeout:.2f} tok/s"}
        figures: dict[str, Any] = {"group": int((room / "memory.max_usage_in_bytes").read_text())}
    if done.returncode == -9:
        return figures | {"end": "killed for its memory"}
    if done.returncode:
        return figures | {"end": (done.stderr or done.stdout).strip()[-300:]}
    return figures | json.loads(done.stdout.splitlines()[-1]) | {"end": "done"}


def row(label: str, figures: dict[str, Any]) -> tuple[str, ...]:
    sizes = [format_size(figures[name]) if name in figures else "-" for name in ("group", "peak")]
    speed = f"{figures['decode']:.2f}" if "decode" in figures else "-"
    hits = f"{figures['hit_rate']:.1%}" if "hit_rate" in figures else "-"
    read = format_size(figures["read"]) if "read" in figures else "-"
    return (label, speed, *sizes, hits, read, figures["end"])


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False), help="Text to decode.")
@click.option("--memory", default="1126MiB", show_default=True, help="Of the group.")
@click.option("--slack", default="32MiB", show_default=True, help="What edgemoe's budget leaves of it.")
@click.option("--disk", default="90MB", show_default=True, help="Bytes a second, or none.")
@click.option("--reads", default=250, show_default=True, help="Reads a second; 0 for no limit.")
@click.option("--ctx", default=2048, show_default=True)
@click.option("--warm", default=8, show_default=True, help="Tokens before those that count.")
@click.option("--tokens", default=24, show_default=True)
@click.option("--stock", is_flag=True, help="Also stock llama.cpp, which maps the file.")
@click.option("--timeout", default=300.0, show_default=True, help="Seconds of one run.")
@click.option("--json", "as_json", is_flag=True)
def main(model: str, text: str, memory: str, slack: str, disk: str, as_json: bool, **options: Any) -> None:
    if lacking := missing(MEMORY, DISK, CORES):
        raise click.UsageError(lacking)
    try:
        room, warm, count = parse_size(memory), options["warm"], options["warm"] + options["tokens"]
        speed = 0 if disk == "none" else parse_size(disk)
        budget = f"{room - parse_size(slack)}"
        ours = Job("edgemoe", model, budget, 0, options["tokens"], 1, options["ctx"], "", threads=1)
        jobs = [ours] + [dataclasses.replace(ours, label="llama.cpp", stock=True)] * options["stock"]
        with tokens_of(model, text, count) as chosen:
            limits = (warm, room, speed, options["reads"], options["timeout"])
            runs = {job.label: measure(job, chosen.ids, *limits) for job in jobs}
    except EdgeMoEError as error:
        raise click.UsageError(str(error)) from error
    if as_json:
        click.echo(json.dumps(runs))
    else:
        click.echo(aligned([COLUMNS, *(row(label, figures) for label, figures in runs.items())]))


if __name__ == "__main__":
    main()
