"""`edgemoe pull`: get a model, knowing before the download what it costs and how fast it will run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgemoe.cli import options
from edgemoe.errors import BudgetError, EdgeMoEError, ModelError
from edgemoe.sizes import format_size

if TYPE_CHECKING:
    from edgemoe.hub.known import Known
    from edgemoe.hub.offer import Offer


@click.command(short_help="Get a model from the Hugging Face Hub or a URL, or name a file.")
@click.argument("model", metavar="REPO[:FILE]|URL|PATH")
@click.option("--name", metavar="NAME", help="Call it so.  [default: made of the repository's or file's name]")
@click.option("--revision", metavar="REV", help="A branch, tag or commit of the repository.  [default: main]")
@click.option("--sha256", metavar="HEX", help="The checksum that the file of a URL must have.")
@click.option("--pack", "packs", is_flag=True, help="Make a pack of it, too, as NAME-pack.")
@click.option("--dry-run", is_flag=True, help="Say what would be fetched and how it would run, and fetch nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal nothing is asked either.")
@options.as_json
def command(
    model: str,
    name: str | None,
    revision: str | None,
    sha256: str | None,
    packs: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Get a model from the Hugging Face Hub or a URL, or give a name to a file that is here.

    FILE is a file of the repository, or a type such as Q4_K_M or Q8_0; without it, Q4_K_M is taken or what is nearest
    to it. Before anything is fetched, the headers of the file say whether the model will run on this machine and how
    fast. A download that was broken off goes on with the same command, and is checked at its end.

    HF_TOKEN, HF_ENDPOINT and HF_HOME mean what they mean to huggingface_hub.

    Example: edgemoe pull unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M
    """
    from edgemoe.cli.console import print_json, print_rows, quiet_library, working
    from edgemoe.hub.offer import find_offer
    from edgemoe.hub.transfer import check_room

    _check_options(name, sha256)
    quiet_library()
    with working(f"looking at {model}"):
        offer = find_offer(model, revision=revision, sha256=sha256)
        _check_free(name, offer)
        wanted = (offer.missing or 0) + (offer.bytes or 0) * packs
        free = check_room(offer.folder, wanted, offer.source or model) if wanted else None
        outlook = _outlook(offer)
    if not as_json:
        print_rows(_rows(offer, outlook, free))
    if dry_run:
        if as_json:
            print_json(_values(offer, outlook))
        return
    if offer.missing != 0 and not yes and sys.stdin.isatty() and sys.stderr.isatty():
        click.confirm("Fetch it?", default=outlook.runs is not False, abort=True, err=True)
    kept = _fetch(offer, name)
    made = _pack(kept) if packs else None
    if as_json:
        print_json(_values(offer, outlook) | asdict(kept) | {"pack": asdict(made) if made else None})
        return
    for each in (kept, made):
        if each:
            click.echo(f"{each.name} is here: edgemoe run {each.name}")


def _check_options(name: str | None, sha256: str | None) -> None:
    from edgemoe.hub.known import check_name

    if name is not None:
        check_name(name)
    if sha256 is not None and (len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef")):
        raise click.BadParameter(f"{sha256!r} is not 64 hexadecimal digits", param_hint="--sha256")


def _check_free(name: str | None, offer: Offer) -> None:
    from edgemoe.hub.known import known

    for model in known():
        if name is None or model.name.lower() != name.lower():
            continue
        moved = not model.ours and not model.path.exists()  # a file of the user's, whose new place this may be
        if model.source != offer.source or (offer.here not in ((), model.paths) and not moved):
            raise ModelError(
                f"{model.name} is the name of {model.source or model.path}: choose another, or edgemoe rm it"
            )


# What to expect


@dataclass(frozen=True)
class _Outlook:
    """Whether the model will run on this machine (None: nobody knows), and what `plan` says, for people and as JSON."""

    runs: bool | None
    rows: list[tuple[str, str]]
    values: dict[str, Any] = field(default_factory=dict)


def _outlook(offer: Offer) -> _Outlook:
    """From the headers alone. Raises ModelError for what is no model, DownloadError when it cannot be read."""
    from edgemoe.packs.summary import open_model, summarize

    if offer.bytes is None:
        return _Outlook(
            None, [("this machine", "the server does not tell the size: edgemoe plan can say when it is here")]
        )
    with offer.header() as path:
        summary = summarize(path, open_model(path))
        if not summary.experts:
            return _dense(summary.file_bytes)
        try:
            return _forecast(path, offer)
        except BudgetError as error:
            reason = str(error).splitlines()[0]
            return _Outlook(False, [("this machine", f"has too little memory: {reason}")], {"runs": False})
        except EdgeMoEError as error:
            return _Outlook(None, [("this machine", f"cannot be planned for: {error}")], {"runs": None})


def _dense(size: int) -> _Outlook:
    from edgemoe import machine

    runs = size <= machine.total_memory()
    fits = "which this machine has" if runs else f"and this machine has {format_size(machine.total_memory())}"
    row = f"no experts: llama.cpp runs it as it is, with some {format_size(size)} of memory, {fits}"
    return _Outlook(runs, [("this machine", row)], {"runs": runs})


def _forecast(path: Path, offer: Offer) -> _Outlook:
    from edgemoe.cli.plan import forecast_values, packing_advice, settings_of
    from edgemoe.planning.advice import advise
    from edgemoe.planning.forecast import Forecaster
    from edgemoe.planning.kept import this_machine
    from edgemoe.planning.locality import default_curve

    with Forecaster(path, default_curve) as forecaster:
        smallest = forecaster.smallest(forecaster.qualities[-1]).smallest
        offer.folder.mkdir(parents=True, exist_ok=True)
        machine = this_machine(offer.folder)
        advice = advise(forecaster, machine)
        packing = packing_advice(forecaster, advice)
    rows = [
        ("this machine", f"runs it with {format_size(smallest)} of memory or more"),
        ("best here", settings_of(advice.best)),
        ("packing", packing),
    ]
    values = {"runs": True, "smallest_bytes": smallest, "best": forecast_values(advice.best)}
    return _Outlook(True, rows, values | {"pack_level": advice.pack_level})


def _rows(offer: Offer, outlook: _Outlook, free: int | None) -> list[tuple[str, str]]:
    from edgemoe.hub.choice import listing

    rows = [("model", offer.source or offer.stem)]
    if offer.others:
        rows.append(("there is also", listing(offer.others)))
    size = "not told" if offer.bytes is None else format_size(offer.bytes)
    if offer.bytes is not None and offer.missing != offer.bytes:
        size += f", {format_size(offer.missing or 0)} of it to fetch"
    rows.append(("size", size))
    if free is not None:
        rows.append(("disk", f"{format_size(free)} free in {offer.folder}"))
    return [*rows, *outlook.rows]


def _values(offer: Offer, outlook: _Outlook) -> dict[str, Any]:
    return {
        "source": offer.source,
        "quant": offer.quant,
        "revision": offer.revision,
        "bytes": offer.bytes,
        "missing_bytes": offer.missing,
        "others": {candidate.called: candidate.bytes for candidate in offer.others},
        "plan": outlook.values,
    }


# Getting it


def _fetch(offer: Offer, name: str | None) -> Known:
    from edgemoe.cli.console import byte_progress
    from edgemoe.hub.shelf import keep
    from edgemoe.hub.unfinished import begun

    going = replace(offer.record(offer.places(), name), bytes=offer.bytes or 0)
    with begun(going), _told_of_the_end(going), byte_progress(offer.stem) as show:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            show(done, max(done, offer.bytes or 0))

        return keep(offer.record(offer.fetch(progress), name))


@contextmanager
def _told_of_the_end(model: Known) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        name = shlex.quote(model.source or model.name)
        end = f"the same command goes on from what is here, edgemoe rm {name} takes it away"
        click.echo(f"\nedgemoe: stopped: {end}", err=True)
        raise


def _pack(model: Known) -> Known | None:
    """None for what is a pack."""
    from edgemoe.cli.console import byte_progress
    from edgemoe.hub.shelf import keep, pack_of
    from edgemoe.hub.unfinished import begun
    from edgemoe.packs.plan import Settings
    from edgemoe.packs.writer import pack

    if model.type.startswith("pack"):
        return None
    made = pack_of(model)
    going = replace(made, paths=(Path(f"{made.path}.partial"),))
    with begun(going), _told_of_the_end(going), byte_progress(f"packing {model.name}") as progress:
        pack(str(model.path), made.path, Settings(), overwrite=True, progress=progress)
    return keep(made)
