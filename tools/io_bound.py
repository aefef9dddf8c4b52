"""Compares what a disk-bound run reads per second with what fio reads from the same file.

    python tools/io_bound.py MODEL --text FILE --cache 280MB --repeat 3

The cache is just above one token's working set, so that most experts are read again for every token. fio reads random
blocks of the same size, unbuffered, at several queue depths; the best one counts. Both take turns.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import time

import click

from edgemoe.residence import READ_PIECE

DEPTHS = (1, 4, 8, 16)


def fio_speed(path: str, depth: int, seconds: int) -> float:
    """Bytes per second of random unbuffered reads."""
    job = ["fio", "--name=read", f"--filename={path}", "--rw=randread", f"--bs={READ_PIECE}", "--direct=1"]
    job += ["--ioengine=libaio", f"--iodepth={depth}", "--readonly", "--norandommap", "--time_based"]
    job += [f"--runtime={seconds}", "--blockalign=4096", "--output-format=json"]
    done = subprocess.run(job, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)["jobs"][0]["read"]["bw_bytes"]


def engine_speed(path: str, text: str, cache: str, tokens: int) -> tuple[float, float]:
    """Bytes per second that decoding reads, and its tokens per second."""
    from edgemoe import Llama

    with contextlib.closing(Llama(path, memory=None, cache=cache, n_ctx=2048)) as model, open(text, "rb") as file:
        ids = model.tokenize(file.read(20000), add_bos=False)
        for token in ids[:20]:
            model.eval([token])
        before, began = model.stats(), time.perf_counter()
        for token in ids[20 : 20 + tokens]:
            model.eval([token])
        seconds = time.perf_counter() - began
        return model.stats().since(before).bytes_read / seconds, tokens / seconds


@click.command(help=__doc__.split("\n\n")[0] if __doc__ else None)
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("--text", required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--cache", default="280MB", show_default=True, help="Bytes, or a share of the experts.")
@click.option("--tokens", default=60, show_default=True)
@click.option("--seconds", default=4, show_default=True, help="Of each run of fio.")
@click.option("--repeat", default=3, show_default=True)
def main(model: str, text: str, cache: str, tokens: int, seconds: int, repeat: int) -> None:
    if not shutil.which("fio"):
        raise click.UsageError("fio is not installed")
    ratios = []
    for _ in range(repeat):
        best = max(fio_speed(model, depth, seconds) for depth in DEPTHS)
        speed, rate = engine_speed(model, text, cache, tokens)
        again = max(fio_speed(model, depth, seconds) for depth in DEPTHS)
        reference = (best + again) / 2
        ratios.append(speed / reference)
        click.echo(
            f"fio {best / 1e9:.2f} and {again / 1e9:.2f} GB/s, edgemoe {speed / 1e9:.2f} GB/s at {rate:.1f} tok/s: "
            f"{ratios[-1]:.0%}"
        )
    click.echo(f"median {statistics.median(ratios):.0%} of fio")


if __name__ == "__main__":
    main()
