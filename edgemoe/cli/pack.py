"""`edgemoe pack`: cut the experts of a model into planes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.cli import options
from edgemoe.errors import EdgeMoEError
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.packs.writer import Packed

_SUFFIX = ".mwq.gguf"


@click.command(short_help="Make a pack: experts that are usable at 2, 3 or 4 bits.")
@click.argument("model", type=options.MODEL_FILE)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The pack.  [default: NAME.mwq.gguf beside MODEL; of what was pulled NAME-pack]",
)
@click.option(
    "--levels", metavar="N,...", help="2, or 2,3, or 2,3,4, or 2,3,4,6.  [default: 2,3,4; 6 if MODEL needs it]"
)
@click.option(
    "--requantize", is_flag=True, help="Encode Q4_K, Q5_K and Q6_K experts anew, too, in place of slicing them."
)
@click.option(
    "--dense", metavar="TYPE", help="Convert dense matrices that it makes smaller: Q8_0, Q6_K...  [default: as is]"
)
@click.option(
    "--calibrate",
    metavar="[TEXT]",
    is_flag=False,
    flag_value="",
    help="Run MODEL over a text and weigh errors by what experts see; without TEXT, one that comes with edgemoe.",
)
@click.option(
    "--gptq/--no-gptq",
    default=None,
    help="Let weights mend each other's errors, with --calibrate.  [default: where memory allows]",
)
@click.option(
    "--heads/--no-heads",
    default=None,
    help="Fit heads that choose levels for a mean of bits, with --calibrate.  [default: where MODEL fits into memory]",
)
@click.option("--report", metavar="FILE", help="Write what each level costs and loses: .json or .md.")
@click.option("--overwrite", is_flag=True, help="Replace the output if it exists.")
@options.threads
@options.ray
@options.as_json
def command(
    model: str,
    output: str | None,
    levels: str | None,
    requantize: bool,
    dense: str | None,
    calibrate: str | None,
    gptq: bool | None,
    heads: bool | None,
    report: str | None,
    overwrite: bool,
    threads: int | None,
    ray: str | None,
    as_json: bool,
) -> None:
    """Make a pack of MODEL: its experts cut into planes, usable at 2, 3 or 4 bits from one file.

    Experts in Q4_K, Q5_K or Q6_K are sliced: nothing is lost, and it goes as fast as the disk. Other types (BF16, F16,
    Q8_0...) are encoded, which takes longer; start from the best file there is.

    The pack appears under its name when it is complete and checked. After Ctrl-C or a crash, the same command goes on
    where it stopped.

    Example: edgemoe pack model.gguf -o model.mwq.gguf
    """
    from edgemoe.cli.console import print_json, quiet_library
    from edgemoe.hub.shelf import keep, pack_of, pulled
    from edgemoe.packs.plan import Settings
    from edgemoe.packs.report import check_report_path, write_report
    from edgemoe.packs.writer import check_request

    if gptq and calibrate is None:
        raise click.UsageError("--gptq needs --calibrate")
    if heads and calibrate is None:
        raise click.UsageError("--heads needs --calibrate")
    if heads and levels == "2":
        raise click.UsageError("--heads choose among levels: --levels 2 leaves them nothing to choose")
    quiet_library()
    source = pulled(model) if output is None else None
    made = pack_of(source) if source else None
    target = made.path if made else default_output(Path(model)) if output is None else Path(output)
    if report:
        check_report_path(Path(report))
        if Path(report).resolve() == target.resolve():
            raise click.UsageError(f"--report {report} is the pack itself: give it a name of its own")
    settings: dict[str, Any] = {"levels": _levels(levels), "requantize": requantize, "dense": dense, "threads": threads}
    if calibrate is not None:
        plan = check_request(model, target, Settings(**settings), overwrite=overwrite)
        if gptq and not plan.has_t16:
            raise click.UsageError("--gptq has nothing to do: these experts are sliced (--requantize encodes them)")
        text = _read(calibrate)
        settings |= _calibrate(model, text, gptq if plan.has_t16 else False)
        if heads or (heads is None and len(plan.levels) > 1 and _heads_fit(model)):
            from edgemoe.level_heads import HeadTrainer

            settings["heads"] = HeadTrainer(text, threads=threads)
    packed = _pack(model, target, settings, overwrite, ray)
    if made:
        keep(made)
    for note in packed.notes:
        click.echo(f"edgemoe: note: {note}", err=True)
    if as_json:
        print_json(_values(packed))
    else:
        _print(packed)
    if report:
        write_report(packed.report, Path(report))


def default_output(model: Path) -> Path:
    """NAME.mwq.gguf beside NAME.gguf; the number of a shard is left out."""
    import re

    name = re.sub(r"(-[0-9]{5}-of-[0-9]{5})?(\.gguf)?$", "", model.name)
    return model.with_name(name + _SUFFIX)


def _levels(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of levels such as 2,3,4", param_hint="--levels") from None


def _heads_fit(model: str) -> bool:
    """Whether the model stays in memory while heads are fitted: they read it hundreds of times."""
    from edgemoe import machine
    from edgemoe.packs.summary import summarize

    summary = summarize(model)
    if summary.dense_bytes + summary.expert_bytes <= machine.available_memory() // 2:
        return True
    click.echo("edgemoe: note: no heads: the model would have to fit into memory (--heads fits them anyway)", err=True)
    return False


def _read(text: str) -> str:
    from edgemoe.calibrate import default_text
    from edgemoe.cli.console import read_text

    return read_text(Path(text)) if text else default_text()


def _calibrate(model: str, text: str, gptq: bool | None) -> dict[str, Any]:
    """The settings that calibration brings. Without a wish, GPTQ is left out where memory does not allow it."""
    from edgemoe.calibrate import Calibration
    from edgemoe.cli.console import progress_bar

    with progress_bar("calibrating") as progress:
        try:
            calibration = Calibration(model, text, hessians=gptq is not False, progress=progress)
        except MemoryError as error:
            if gptq:
                raise EdgeMoEError(f"--gptq: {error}") from error
            click.echo(f"edgemoe: note: GPTQ is left out: {error}", err=True)
            calibration = Calibration(model, text, hessians=False, progress=progress)
    return {"calibration": calibration, "gptq": gptq is not False}


def _pack(model: str, target: Path, settings: dict[str, Any], overwrite: bool, ray: str | None) -> Packed:
    from edgemoe.cli.console import byte_progress
    from edgemoe.packs.plan import Settings
    from edgemoe.packs.writer import pack

    try:
        with _encoders(ray, settings) as more, byte_progress(f"packing {Path(model).name}") as progress:
            return pack(model, target, Settings(**settings), overwrite=overwrite, progress=progress, **more)
    except KeyboardInterrupt:
        click.echo(f"edgemoe: stopped: the same command goes on from what {target}.partial holds", err=True)
        raise


@contextmanager
def _encoders(ray: str | None, settings: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Arguments of `pack` that have experts encoded on a cluster, where that is asked for."""
    if ray is None:
        yield {}
        return
    from edgemoe.serving.tasks import join

    with join(ray) as cluster:
        settings["threads"] = settings["threads"] or cluster.processors
        yield {"make_encoder": cluster.encoder}


def _values(packed: Packed) -> dict[str, Any]:
    values = dataclasses.asdict(packed)
    return values | {"groups_resumed": values.pop("resumed")}


def _print(packed: Packed) -> None:
    from edgemoe.cli.console import print_rows

    speed = f"{format_size(packed.source_bytes / packed.seconds)}/s" if packed.seconds else "at once"
    resumed = f", {packed.resumed} layers of it earlier" if packed.resumed else ""
    rows = [
        ("pack", str(packed.path)),
        ("size", f"{format_size(packed.bytes)}, of {format_size(packed.source_bytes)}"),
        ("time", f"{packed.seconds:.1f} s, {speed}{resumed}"),
    ]
    print_rows([*rows, *level_rows(packed.report.levels)])


def level_rows(levels: list[Any]) -> list[tuple[str, str]]:
    """A row for each level of a report."""
    return [
        (f"level {at.level}", f"{at.bits_per_weight:.3f} bits per weight, relative error {at.error:.3g}")
        for at in levels
    ]
