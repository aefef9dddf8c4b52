"""Changing one setting in the user's file, all else and its comments as they are."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from edgemoe.config.load import load_config
from edgemoe.config.template import TEMPLATE
from edgemoe.errors import ConfigError, WriteError
from edgemoe.files import replace_file

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TABLE = re.compile(r"^\s*\[", re.MULTILINE)
_LINE = re.compile(r"^([ \t]*)(#[ \t]*)?threshold([ \t]*=[ \t]*)[^\s#]+", re.MULTILINE)


def store_threshold(path: Path, value: float) -> None:
    """Sets `threshold` in a configuration; where there is no file, a commented one is made.

    Raises:
        ConfigError: when the file is no configuration, or is written so that its line cannot be found.
        WriteError: when it cannot be written.
    """
    exists = path.exists()
    if exists:
        load_config(path)
    try:
        mark, written = _text(path.read_bytes()) if exists else ("", TEMPLATE)
    except OSError as error:
        raise WriteError(f"{path} cannot be read: {error.strerror}") from error
    changed = _with_threshold(written, value)
    if tomllib.loads(changed) != tomllib.loads(written) | {"threshold": value}:
        raise ConfigError(
            f"{path} is written in a way that cannot be changed safely: write threshold = {value} yourself"
        )
    replace_file(path, (mark + changed).encode())


def _text(data: bytes) -> tuple[str, str]:
    """The byte order mark that some editors put at the start, and the text behind it."""
    text = data.decode()
    mark = text[:1] if text.startswith("\ufeff") else ""
    return mark, text.removeprefix(mark)


def _with_threshold(written: str, value: float) -> str:
    """In the line that has it, else in the comment that shows it, else in a line of its own before all tables."""
    table = _TABLE.search(written)
    end = table.start() if table else len(written)
    head, rest = written[:end], written[end:]
    lines = list(_LINE.finditer(head))
    found = next((line for line in lines if not line[2]), next(iter(lines), None))
    if found:
        return f"{head[: found.start()]}{found[1]}threshold{found[3]}{value}{head[found.end() :]}{rest}"
    return f"threshold = {value}\n{written}"
