"""Where the command line prints, and how it tells that something takes time."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from edgemoe.errors import EdgeMoEError

if TYPE_CHECKING:
    from edgemoe.llama import Llama


def console(*, stderr: bool = False) -> Console:
    """A console without colours when it is piped or NO_COLOR is set."""
    return Console(stderr=stderr, highlight=False, **_colours())


def print_json(value: Any) -> None:
    """Writes `value` to standard output as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Names and values in two columns; values are never cut or folded."""
    width = max(len(name) for name, _ in rows)
    screen = console()
    for name, value in rows:
        screen.print(f"{name:<{width}}", style="bold", markup=False, end="  ")
        screen.print(value, markup=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under the names of their columns; the last column is never padded."""
    lines = [[column.upper() for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def quiet_library() -> None:
    """Keep llama.cpp's log off the terminal: what matters of it is in the errors that edgemoe raises."""
    with suppress(ImportError):  # loading it says better what is missing
        import llama_cpp._logger

        logger: Any = llama_cpp._logger.logger
        logger.setLevel(logging.CRITICAL)
        logger.setLevel = lambda level: None  # each load would lower it


def open_llama(path: Path, **arguments: Any) -> Llama:
    """Load a model, with a hint of progress on a terminal, and tell what it chose by itself."""
    verbose = bool(arguments.get("verbose"))
    if not verbose:
        quiet_library()
    with nullcontext() if verbose else working(f"loading {path.name}"):
        from edgemoe.llama import Llama

        llm = Llama(str(path), **arguments)
    for note in llm.notes:
        click.echo(f"edgemoe: {note}", err=True)
    return llm


@contextmanager
def working(message: str) -> Iterator[None]:
    """Show on a terminal that something goes on, also while llama.cpp has stderr redirected."""
    if not sys.stderr.isatty():
        yield
        return
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal:
        screen = Console(file=terminal, force_terminal=True, **_colours())
        with screen.status(message):
            yield


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, told how much is done and of how much; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(unit, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def byte_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with speed and remaining time on stderr, told how many bytes are done and of how many."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    screen = console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=screen, transient=True, disable=not screen.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _colours() -> dict[str, Any]:
    return {"color_system": None} if os.environ.get("NO_COLOR") else {}


def read_text(path: Path) -> str:
    """A text file in UTF-8. Raises EdgeMoEError for one that is none, or that cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EdgeMoEError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EdgeMoEError(f"{path} is not a text in UTF-8: {error.reason} at byte {error.start}") from error
