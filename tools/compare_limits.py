"""Decoding speed of edgemoe, stock llama.cpp and other programs under equal limits of cache, memory and disk.

    python tools/compare_limits.py MODEL --text FILE --cache 50%,25%,10% --disk none,300MB,90MB --repeat 3

Every run is a fresh process that decodes the same tokens of a text, one at a time: the first ones fill the cache and
are not counted. Programs take turns, so that a change of the speed of the machine meets all of them alike. What the
page cache has of the model is dropped before each run.

A cache share is of MODEL's experts; edgemoe and the peers are given its bytes. `--memory auto` runs each process in a
control group of the dense weights, the cache and --overhead, page cache included; stock llama.cpp maps the file and has
what is left of the group as its cache. `--disk` limits bytes per second that the process reads. Limits need root and
control groups of version 1.

`--lru FILE` is another file of the same model, whose experts are kept whole by last use, in the same bytes.
`--parallel` decodes so many sequences together, each a piece of the text, with --warm and --tokens in all.

A peer's command may name {model} {cache} (bytes) {cache_mib} {text} {ids} (a file of token ids) {warm} {tokens}
{total} (warm + tokens) {threads}. Its speed is --peer-pattern's first group, or the group named `decode`, in the last
place of its output that matches; other named groups are kept as figures.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from control_groups import DISK, MEMORY, missing
from edgemoe.bench.disk import measure_disk
from edgemoe.bench.tables import aligned
from edgemoe.budget import resolve_cache
from edgemoe.errors import EdgeMoEError
from edgemoe.experts.loading import collected_log
from edgemoe.packs.summary import summarize
from edgemoe.sizes import format_size, parse_size
from limited_run import Failed, Figures, Program, Setting, Text, run, with_bound

COLUMNS = ("program", "tok/s", "min", "max", "ratio", "hits", "read/token")
COLUMNS += ("peak", "wait ms", "compute ms", "read ms", "bubble")


def compare(
    programs: Sequence[Program],
    setting: Setting,
    stock: Setting,
    text: Text,
    repeat: int,
    pattern: re.Pattern[str],
    timeout: float,
) -> dict[str, list[Figures]]:
    """Figures of each program's runs, in turns; `stock` is the setting of stock llama.cpp. Failures go to stderr."""
    runs: dict[str, list[Figures]] = {program.label: [] for program in programs}
    speeds = []
    for _ in range(repeat):
        speeds.append(measure_disk(Path(programs[0].model)).many_readers)
        for program in programs:
            try:
                figures = run(program, stock if program.stock else setting, text, pattern, timeout)
            except Failed as error:
                click.echo(f"{program.label}: {error}", err=True)
            else:
                runs[program.label].append(figures)
    speed = min(max(speeds), setting.disk or float("inf"))
    return {label: [with_bound(figures, speed) for figures in done] for label, done in runs.items()}


def medians(runs: Sequence[Figures]) -> Figures:
    names = sorted({name for figures in runs for name in figures})
    return {name: statistics.median(f[name] for f in runs if name in f) for name in names}


def row(label: str, runs: Sequence[Figures], first: float | None) -> tuple[str, ...]:
    """A program's medians under COLUMNS; `first` is the median speed that ratios are to."""
    if not runs:
        return (label, "failed", *["-"] * (len(COLUMNS) - 2))
    figures = medians(runs)
    speeds = [f["decode"] for f in runs]

    def shown(name: str, form: str, scale: float = 1.0) -> str:
        return format(figures[name] * scale, form) if name in figures else "-"

    return (
        label,
        shown("decode", ".2f"),
        f"{min(speeds):.2f}",
        f"{max(speeds):.2f}",
        f"{figures['decode'] / first:.2f}x" if first else "-",
        shown("hit_rate", ".1%"),
        format_size(figures["read"]) if "read" in figures else "-",
        format_size(figures["peak"]) if "peak" in figures else "-",
        *(shown(name, ".1f", 1000) for name in ("io_wait", "compute", "read_time")),
        shown("bubble", ".2f"),
    )


def report(setting: Setting, runs: dict[str, list[Figures]], as_json: bool) -> None:
    if as_json:
        facts = dataclasses.asdict(setting)
        click.echo(json.dumps(facts | {"median": {k: medians(v) for k, v in runs.items()}, "runs": runs}))
        return
    limits = f"memory {limit(setting.memory)}, disk {limit(setting.disk)}{'/s' if setting.disk else ''}"
    together = f" of {setting.sequences} sequences" if setting.sequences else ""
    click.echo(f"\ncache {setting.share} ({format_size(setting.cache)}), {limits}, {setting.tokens} tokens{together}")
    fastest = medians(next(iter(runs.values()))).get("decode")
    click.echo(aligned([COLUMNS, *(row(label, done, fastest) for label, done in runs.items())]))


def limit(size: int) -> str:
    return format_size(size) if size else "without limit"


@contextlib.contextmanager
def tokens_of(model: str, path: str, count: int) -> Iterator[Text]:
    """The first `count` tokens of the text. Raises EdgeMoEError when it has fewer."""
    from llama_cpp import Llama

    with collected_log(quiet=True), contextlib.closing(Llama(model, vocab_only=True, verbose=False)) as vocabulary:
        ids = vocabulary.tokenize(Path(path).read_bytes()[: 40 * count], add_bos=False)[:count]
    if len(ids) < count:
        raise EdgeMoEError(f"{path} has {len(ids)} tokens: --warm and --tokens need {count}")
    with tempfile.NamedTemporaryFile("w", prefix="edgemoe-ids-") as file:
        file.write("\n".join(map(str, ids)))
        file.flush()
        yield Text(Path(path).resolve(), ids, Path(file.name))


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False), help="Text to decode.")
@click.option("--cache", default="50%,25%,10%", show_default=True, help="Sizes, or shares of the experts.")
@click.option("--disk", default="none", show_default=True, help="Bytes per second, or none.")
@click.option("--memory", default="none", show_default=True, help="auto, none, or the control group's size.")
@click.option("--overhead", default="800MB", show_default=True, help="For --memory auto.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--warm", default=200, show_default=True, help="Tokens before those that count.")
@click.option("--tokens", default=200, show_default=True)
@click.option("--pack", type=click.Path(exists=True, dir_okay=False), help="Also this pack, at each --quality.")
@click.option("--quality", multiple=True, default=["exact"], show_default=True)
@click.option(
    "--lru", multiple=True, type=click.Path(exists=True, dir_okay=False), help="Also this file, LRU of whole experts."
)
@click.option("--parallel", help="Sequences decoded together, such as 1,4,8,16.")
@click.option("--stock", is_flag=True, help="Also stock llama.cpp, which maps the file.")
@click.option("--stock-warm", default=4, show_default=True)
@click.option("--stock-tokens", default=8, show_default=True)
@click.option("--peer", "peers", type=(str, str), multiple=True, metavar="NAME COMMAND")
@click.option("--peer-pattern", default=r"([0-9.]+) tok/s", show_default=True)
@click.option("--timeout", default=900.0, show_default=True, help="Seconds of one run.")
@click.option("--json", "as_json", is_flag=True, help="One object for each setting.")
def main(model: str, text: str, cache: str, disk: str, repeat: int, as_json: bool, **options: Any) -> None:
    try:
        programs, pattern = programs_of(model, options), pattern_of(options["peer_pattern"])
        settings = list(settings_of(model, cache, disk, options))
        count = options["warm"] + options["tokens"]
        with tokens_of(model, text, count) as chosen:
            for setting in settings:
                short = dataclasses.replace(setting, warm=options["stock_warm"], tokens=options["stock_tokens"])
                runs = compare(programs, setting, short, chosen, repeat, pattern, options["timeout"])
                report(setting, runs, as_json)
    except EdgeMoEError as error:
        raise click.UsageError(str(error)) from error


def programs_of(model: str, options: dict[str, Any]) -> list[Program]:
    programs = [Program("edgemoe", model)]
    if pack := options["pack"]:
        programs += [Program(f"pack {quality}", pack, quality) for quality in options["quality"]]
    programs += [Program(f"LRU {Path(file).name}", file, lru=True) for file in options["lru"]]
    programs += [Program(name, model, command=command) for name, command in options["peers"]]
    programs += [Program("llama.cpp", model, stock=True)] * options["stock"]
    labels = [program.label for program in programs]
    if twice := next((label for label in labels if labels.count(label) > 1), None):
        raise click.UsageError(f"{twice!r} names two programs: give each peer and each --quality once")
    return programs


def pattern_of(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise click.UsageError(f"--peer-pattern {pattern!r} is no regular expression: {error}") from error
    if not compiled.groups:
        raise click.UsageError(f"--peer-pattern {pattern!r} has no group for the speed: write ([0-9.]+)")
    return compiled


def settings_of(model: str, caches: str, disks: str, options: dict[str, Any]) -> Iterator[Setting]:
    """Every disk with every cache. Raises EdgeMoEError for a bad size, click.UsageError where limits cannot be set."""
    summary = summarize(model)
    for disk in disks.split(","):
        for share in caches.split(","):
            size = resolve_cache(share, summary.expert_bytes)
            memory = {"none": 0, "auto": summary.dense_bytes + size}.get(options["memory"])
            if options["memory"] == "auto":
                memory += parse_size(options["overhead"])
            memory = parse_size(options["memory"]) if memory is None else memory
            speed = 0 if disk == "none" else parse_size(disk)
            needed = [MEMORY] * bool(memory) + [DISK] * bool(speed)
            if needed and (lacking := missing(*needed)):
                raise click.UsageError(lacking)
            for sequences in sequences_of(options):
                yield Setting(share, size, memory, speed, options["warm"], options["tokens"], sequences)


def sequences_of(options: dict[str, Any]) -> list[int | None]:
    """None: one, without batching. Raises click.UsageError for what does not divide the tokens, and beside others."""
    if options["parallel"] is None:
        return [None]
    if options["stock"] or options["peers"]:
        raise click.UsageError("--parallel is for edgemoe alone: leave out --stock and --peer")
    try:
        counts = [int(count) for count in options["parallel"].split(",")]
    except ValueError:
        raise click.UsageError(f"--parallel {options['parallel']!r} is no list of numbers: write 1,4,8") from None
    for count in counts:
        if count < 1 or options["warm"] % count or options["tokens"] % count:
            raise click.UsageError(f"--parallel {count}: --warm and --tokens have to be multiples of it")
    return list(counts)


if __name__ == "__main__":
    main()
