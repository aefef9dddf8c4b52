"""`edgemoe plan`: how fast a model will run here and elsewhere, before it is loaded."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from edgemoe.cli import options
from edgemoe.errors import BudgetError
from edgemoe.sizes import format_size, parse_size

if TYPE_CHECKING:
    from edgemoe.planning.advice import Advice
    from edgemoe.planning.forecast import Forecast, Forecaster
    from edgemoe.planning.locality import HitCurve
    from edgemoe.planning.machines import Machine

_THIS = "this"
_SHARES = (0.25, 0.5, 0.75, 1.0)
_COLUMNS = ("memory", "quality", "of experts", "hits", "read/token", "decode tok/s", "prompt tok/s", "load s", "binds")


def _complete_machine(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from edgemoe.planning.machines import MACHINES

    return [CompletionItem(name) for name in (_THIS, *MACHINES) if name.startswith(incomplete)]


@click.command(short_help="Estimate how fast a model will run, without loading it.")
@click.argument("model", type=options.MODEL_FILE)
@click.option("--memory", metavar="SIZE", help="A budget, as elsewhere.  [default: several]")
@click.option("--quality", metavar="QUALITY", help="One, as elsewhere.  [default: all that MODEL has]")
@click.option(
    "--machine",
    "machine_name",
    metavar="NAME",
    shell_complete=_complete_machine,
    default=_THIS,
    show_default=True,
    help="Or pi5-nvme, pi5-sd, m1-air, x86-laptop.",
)
@click.option("--disk", metavar="SPEED", help="Speed of the disk, such as 500MB/s.  [default: the machine's]")
@click.option("--trace", type=options.FILE, help="Hits of this recorded trace.  [default: a typical curve]")
@options.ctx
@click.option("--measure", is_flag=True, help="Measure this machine again.")
@options.as_json
def command(
    model: str,
    memory: str | None,
    quality: str | None,
    machine_name: str,
    disk: str | None,
    trace: str | None,
    ctx: int | None,
    measure: bool,
    as_json: bool,
) -> None:
    """Estimate the speed of MODEL under memory budgets, and what binds it, without loading it.

    The first time, this machine and the disk that holds MODEL are measured, which takes a few seconds.

    Example: edgemoe plan model.gguf --memory 4GiB
    """
    from edgemoe.cli.console import quiet_library
    from edgemoe.planning.advice import advise
    from edgemoe.planning.forecast import Forecaster
    from edgemoe.planning.machines import MACHINES

    quiet_library()
    with Forecaster(model, _curve(trace), n_ctx=ctx) as forecaster:
        machine = _machine(machine_name, model, disk, measure)
        budget = parse_size(memory, whole=machine.memory_bytes) if memory else None
        qualities = [quality] if quality else forecaster.qualities
        rows = _rows(forecaster, machine, budget, qualities)
        advice = advise(forecaster, machine, budget, quality)
        others = {}
        if machine_name == _THIS:
            others = {other.name: _elsewhere(forecaster, other, quality) for other in MACHINES.values()}
    if as_json:
        _print_json(forecaster, machine, rows, advice, others)
    else:
        _print(forecaster, machine, rows, advice, others, trace)


def _rows(forecaster: Forecaster, machine: Machine, budget: int | None, qualities: list[str]) -> list[Forecast]:
    """One for each quality, under the budget or several that the machine has memory for."""
    if budget is not None:
        return [forecaster.forecast(machine, budget, quality) for quality in qualities]
    rows = []
    for quality in qualities:
        budgets = [forecaster.smallest(quality).smallest, *(forecaster.budget_for(s, quality) for s in _SHARES)]
        rows += [forecaster.forecast(machine, b, quality) for b in budgets if b <= machine.memory_bytes]
    return rows


def _elsewhere(forecaster: Forecaster, machine: Machine, quality: str | None) -> Advice | None:
    """None where the model does not fit."""
    from edgemoe.planning.advice import advise

    try:
        return advise(forecaster, machine, quality=quality)
    except BudgetError:
        return None


def _curve(trace: str | None) -> HitCurve:
    from edgemoe.planning.locality import curve_of_trace, default_curve

    return curve_of_trace(trace) if trace else default_curve


def _machine(name: str, model: str, disk: str | None, measure: bool) -> Machine:
    from edgemoe.cli.console import working
    from edgemoe.planning.kept import this_machine
    from edgemoe.planning.machines import MACHINES

    speed = _speed(disk)
    if name == _THIS:
        with working("measuring this machine"):
            return this_machine(model, disk=speed, again=measure)
    if name not in MACHINES:
        message = f"{name!r} is not known: use {_THIS}, {', '.join(MACHINES)}"
        raise click.BadParameter(message, param_hint="--machine")
    machine = MACHINES[name]
    return dataclasses.replace(machine, disk_bandwidth=speed) if speed else machine


def _speed(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(parse_size(text.strip().removesuffix("/s")))
    except BudgetError:
        message = f"{text!r} is no speed: use text such as 500MB/s"
        raise click.BadParameter(message, param_hint="--disk") from None


# Output


def _print(
    forecaster: Forecaster,
    machine: Machine,
    rows: list[Forecast],
    advice: Advice,
    others: dict[str, Advice | None],
    trace: str | None,
) -> None:
    from edgemoe.bench.tables import aligned
    from edgemoe.cli.console import print_rows
    from edgemoe.planning.machines import MACHINES

    summary = forecaster.summary
    print_rows(
        [
            ("model", f"{summary.name}, {format_size(summary.file_bytes)}"),
            ("machine", f"{machine.description}, {format_size(machine.memory_bytes)}"),
            ("rates", _rates(machine)),
            ("hits", f"those of {trace}" if trace else "a typical model's"),
        ]
    )
    click.echo()
    click.echo(aligned([_COLUMNS, *map(_cells, rows)]))
    click.echo()
    best = advice.best
    print_rows([("recommended", settings_of(best)), ("packing", packing_advice(forecaster, advice))])
    if others:
        click.echo()
        for name, other in others.items():
            does = settings_of(other.best) if other else "the model does not fit"
            click.echo(f"{MACHINES[name].description}: {does}")


def _rates(machine: Machine) -> str:
    return (
        f"memory {machine.memory_bandwidth / 1e9:.1f} GB/s, products {machine.dot_rate / 1e9:.0f} G/s, "
        f"disk {machine.disk_bandwidth / 1e6:.0f} MB/s"
    )


def _cells(forecast: Forecast) -> tuple[str, ...]:
    return (
        format_size(forecast.budget),
        forecast.quality,
        f"{forecast.share:.0%}",
        f"{forecast.hit_rate:.1%}",
        format_size(forecast.token.bytes_read),
        f"{forecast.token.per_second:.2f}",
        f"{forecast.prompt_per_second:.1f}",
        f"{forecast.load_seconds:.2f}",
        forecast.token.binds,
    )


def settings_of(forecast: Forecast) -> str:
    """What to ask for, and what it brings."""
    return (
        f"--memory {forecast.budget / (1 << 20):.0f}MiB --quality {forecast.quality}: "
        f"{forecast.token.per_second:.1f} tok/s, bound by {forecast.token.binds}"
    )


def packing_advice(forecaster: Forecaster, advice: Advice) -> str:
    """Whether a pack of the model would be faster."""
    if forecaster.levels:
        return "this is a pack"
    if not advice.packed:
        return "a pack would not be smaller"
    speeds = ", ".join(f"{f.token.per_second:.1f} tok/s at level {level}" for level, f in advice.packed.items())
    if advice.pack_level is None:
        return f"not for speed: a pack would give {speeds}"
    levels = " --levels 2,3,4,6" if advice.pack_level == 6 else ""  # which packs have only where they are asked to
    return f"worth it, at level {advice.pack_level}: a pack would give {speeds} (edgemoe pack{levels})"


def _print_json(
    forecaster: Forecaster,
    machine: Machine,
    rows: list[Forecast],
    advice: Advice,
    others: dict[str, Advice | None],
) -> None:
    from edgemoe.cli.console import print_json

    print_json(
        {
            "model": str(forecaster.summary.path),
            "machine": dataclasses.asdict(machine),
            "forecasts": [forecast_values(row) for row in rows],
            "recommended": forecast_values(advice.best),
            "pack_level": advice.pack_level,
            "packed": {str(level): forecast_values(forecast) for level, forecast in advice.packed.items()},
            "machines": {name: forecast_values(other.best) if other else None for name, other in others.items()},
        }
    )


def forecast_values(forecast: Forecast) -> dict[str, Any]:
    """A forecast as JSON has it."""
    token = forecast.token
    return {
        "memory_bytes": forecast.budget,
        "quality": forecast.quality,
        "n_ctx": forecast.plan.shape.n_ctx,
        "n_ubatch": forecast.plan.shape.n_ubatch,
        "experts_share": forecast.share,
        "hit_rate": forecast.hit_rate,
        "bytes_per_token": token.bytes_read,
        "decode_tps": token.per_second,
        "compute_seconds": token.compute,
        "read_seconds": token.read,
        "binds": token.binds,
        "prompt_tps": forecast.prompt_per_second,
        "load_seconds": forecast.load_seconds,
    }
