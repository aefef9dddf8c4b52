"""Other programs' speeds, measured elsewhere, to draw beside one's own."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from edgemoe.errors import EdgeMoEError
from edgemoe.sizes import parse_size

COLUMNS = ("name", "budget", "tok_s")


@dataclass(frozen=True)
class Peer:
    """A program's speed in tokens per second under a budget in bytes."""

    name: str
    budget: int
    tok_s: float


def read_peers(path: Path) -> list[Peer]:
    """The rows of a CSV file in UTF-8 whose first line is `name,budget,tok_s`, for example `other,4GiB,7.5`.

    Raises:
        EdgeMoEError: the file cannot be read, has other columns or no rows, or a row is wrong; the message says which.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file))
    except OSError as error:
        raise EdgeMoEError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EdgeMoEError(f"{path} is no CSV file in UTF-8: {error}") from error
    if not lines or tuple(cell.strip() for cell in lines[0]) != COLUMNS:
        first = ",".join(lines[0]) if lines else "nothing"
        raise EdgeMoEError(f"{path} begins with {first!r}: its first line must be {','.join(COLUMNS)}")
    peers = [_peer(row, f"{path}, line {number}") for number, row in enumerate(lines[1:], 2) if row]
    if not peers:
        raise EdgeMoEError(f"{path} has no rows: add some, such as other,4GiB,7.5")
    return peers


def _peer(row: list[str], where: str) -> Peer:
    if len(row) != len(COLUMNS):
        raise EdgeMoEError(f"{where} has {len(row)} cells: it must have {len(COLUMNS)}, {', '.join(COLUMNS)}")
    name, budget, tok_s = (cell.strip() for cell in row)
    if not name:
        raise EdgeMoEError(f"{where} has no name")
    try:
        size = parse_size(budget)
    except EdgeMoEError as error:
        raise EdgeMoEError(f"{where}: {error}") from error
    try:
        speed = float(tok_s)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0):
        raise EdgeMoEError(f"{where}: tok_s is {tok_s!r}, but must be a number more than zero")
    return Peer(name, size, speed)
