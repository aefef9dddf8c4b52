"""Runs edgemoe and stock llama.cpp side by side, each in a control group of the same size, and prints medians.

    python tools/compare_stock.py MODEL --text FILE --memory none,50%,30% --repeat 5

`none` sets no limit and runs both with everything in memory. Stock llama.cpp maps the file (mmap) and does not repack
weights; `--repacked` adds it with repacking, `--pack` a pack of MODEL at each of its levels. Text is evaluated token by
token after a warm-up, so that every program sees the same tokens. Programs take turns, so that a change of the speed of
the machine meets all of them alike.
Limits need root and control groups of version 1; the page cache is dropped before each limited run.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from control_groups import HERE, MEMORY, memory_group, missing, run_in
from edgemoe.sizes import format_size, parse_size

FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)
WORK = """
import json, sys, time
program, path, text, limit, prompt, warm, tokens = sys.argv[1:4] + [int(n) for n in sys.argv[4:8]]
options = dict(n_ctx=4096, n_batch=512, n_threads=2, n_threads_batch=2, verbose=False)
started = time.perf_counter()
ours = program.startswith("edgemoe")
if ours:
    from edgemoe import Llama
    level = program.rpartition(" level ")[2] if " level " in program else ""
    model = Llama(path, memory=limit or None, quality=f"fixed:{level}" if level else "exact", **options)
else:
    import llama_cpp.llama_cpp as bindings
    from llama_cpp import Llama
    defaults = bindings.llama_model_default_params
    def params():
        p = defaults()
        p.use_extra_bufts = program == "repacked"
        return p
    bindings.llama_model_default_params = params
    model = Llama(path, n_ubatch=512, **options)
ids = model.tokenize(open(text, "rb").read(40000), add_bos=False)
def timed(tokens, one_by_one):
    began = time.perf_counter()
    if one_by_one:
        for token in tokens:
            model.eval([token])
    else:
        model.eval(tokens)
    return len(tokens) / (time.perf_counter() - began)
result = dict(load=time.perf_counter() - started)
model.eval(ids[:1])
result["first_token"] = time.perf_counter() - started
model.reset()
if prompt:
    if not limit:
        timed(ids[:prompt], False)
        model.reset()
    result["prompt"] = timed(ids[:prompt], False)
if tokens:
    start = len(ids) // 3
    timed(ids[start:start + warm], True)
    if not limit:  # everything is to be in memory: the same tokens once before
        timed(ids[start + warm:start + warm + tokens], True)
    before = model.stats() if ours else None
    result["decode"] = timed(ids[start + warm:start + warm + tokens], True)
    if before:
        after = model.stats().since(before)
        result |= dict(hit_rate=after.hit_rate, read=after.bytes_read / tokens, io_wait=after.io_wait / tokens,
                       cache=after.cache_bytes, peak=after.peak_bytes, n_ubatch=model._residence.plan.shape.n_ubatch)
print(json.dumps(result))
"""


def run(program: str, arguments: list[str], limit: int) -> dict[str, float]:
    """Figures of one run, empty when it was killed or failed."""
    command = [sys.executable, "-c", WORK, program, *arguments]
    if limit:
        # Pages that are cached already are charged to whoever read them first: a limit would not count them.
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        with memory_group(limit) as group:
            done = run_in([group], command, cwd=HERE)
    else:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode != 0:
        click.echo(f"{program}: ended with {done.returncode}: {done.stderr.strip()[-300:]}", err=True)
        return {}
    return json.loads(done.stdout.splitlines()[-1])


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    names = {name for figures in runs for name in figures}
    return {name: statistics.median(f[name] for f in runs if name in f) for name in sorted(names)}


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("model", type=FILE)
@click.option("--text", required=True, type=FILE, help="Text to evaluate.")
@click.option("--memory", default="none,50%,30%", show_default=True, help="Limits; a share is of the file.")
@click.option("--repeat", default=5, show_default=True)
@click.option("--prompt-tokens", default=512, show_default=True)
@click.option("--tokens", default=100, show_default=True)
@click.option("--stock-tokens", default=6, show_default=True, help="For stock llama.cpp under a limit.")
@click.option("--pack", type=FILE, help="Also this pack of MODEL.")
@click.option("--levels", default="4,3,2", show_default=True, help="Of the pack.")
@click.option("--repacked", is_flag=True, help="Also stock llama.cpp with repacked weights.")
@click.option("--no-stock-prompt", is_flag=True, help="Under a limit, leave the prompt of stock llama.cpp out.")
@click.option("--json", "as_json", is_flag=True)
def main(
    model: str, text: str, memory: str, repeat: int, pack: str | None, levels: str, as_json: bool, **options: Any
) -> None:
    size = os.path.getsize(model)
    for share in memory.split(","):
        limit = 0 if share == "none" else parse_size(share, whole=size)
        if limit and (lacking := missing(MEMORY)):
            raise click.UsageError(f"limit {share}: {lacking}")
        programs = ["stock", "edgemoe"] + ["repacked"] * options["repacked"]
        programs += [f"edgemoe level {level}" for level in levels.split(",")] if pack else []
        runs: dict[str, list[dict[str, float]]] = {program: [] for program in programs}
        for _ in range(repeat):
            for program in programs:
                stock = not program.startswith("edgemoe")
                path = pack if pack and "level" in program else model
                tokens = options["stock_tokens"] if limit and stock else options["tokens"]
                prompt = 0 if limit and stock and options["no_stock_prompt"] else options["prompt_tokens"]
                warm = 2 if limit and stock else 100
                runs[program].append(run(program, [path, text, *map(str, (limit, prompt, warm, tokens))], limit))
        report(share, limit, runs, as_json)


def report(share: str, limit: int, runs: dict[str, list[dict[str, float]]], as_json: bool) -> None:
    figures = {program: medians(done) for program, done in runs.items()}
    if as_json:
        click.echo(json.dumps({"memory": share, "limit": limit, "median": figures, "runs": runs}))
        return
    click.echo(f"memory {share} ({format_size(limit) if limit else 'no limit'})")
    for program, values in figures.items():
        shown = {k: round(v, 3) if v < 1000 else format_size(v) for k, v in values.items()}
        click.echo(f"  {program:>15}  " + "  ".join(f"{name} {value}" for name, value in shown.items()))
    with contextlib.suppress(KeyError, ZeroDivisionError):  # a prompt that was left out has no ratio
        for program in figures:
            if program == "stock":
                continue
            ratios = {name: figures[program][name] / figures["stock"][name] for name in ("prompt", "decode")}
            click.echo(f"  {program} / stock: " + "  ".join(f"{name} {ratio:.2f}x" for name, ratio in ratios.items()))


if __name__ == "__main__":
    main()
