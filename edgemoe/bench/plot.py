"""Plots of measurements: a PNG by matplotlib, or a page that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edgemoe.bench.measure import Measurement
from edgemoe.bench.peers import Peer
from edgemoe.errors import EdgeMoEError, WriteError

if TYPE_CHECKING:
    from edgemoe.bench.report import Report

SUFFIXES = (".png", ".html")


def check_plot(path: Path) -> None:
    """Raises EdgeMoEError when `write_plot` could not write `path`."""
    if path.suffix.lower() not in SUFFIXES:
        raise EdgeMoEError(f"{path} is no name of a plot: it must end in {' or '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise WriteError(f"cannot write the plot {path}: there is no folder {path.parent}")
    if path.suffix.lower() == ".png" and find_spec("matplotlib") is None:
        raise EdgeMoEError(
            f'{path.name} needs matplotlib: python -m pip install "matplotlib>=3.7" (an .html needs nothing)'
        )


def write_plot(path: Path, model: str, results: Sequence[Measurement], peers: Sequence[Peer] = ()) -> None:
    """Draws what was measured of `model` (its name), and the speeds of `peers`.

    Raises:
        EdgeMoEError: as `check_plot` does.
        WriteError: the file cannot be written.
    """
    from edgemoe.bench.report import make_report

    write_report(path, make_report(model, results, peers))


def write_report(path: Path, report: Report) -> None:
    """Draws a report. Raises what `write_plot` raises."""
    check_plot(path)
    try:
        if path.suffix.lower() == ".png":
            from edgemoe.bench.plot_png import save

            save(report, path)
        else:
            from edgemoe.bench.plot_html import page

            path.write_text(page(report), encoding="utf-8")
    except OSError as error:
        raise WriteError(f"cannot write the plot {path}: {error.strerror}") from error
