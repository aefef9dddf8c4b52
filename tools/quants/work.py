"""A folder of what was made and measured, so that an interrupted comparison goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash


class Work:
    """Files, named after what they are made of, and figures under keys. Only what is complete is ever found in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._index = folder / "figures.json"
        self._figures: dict[str, Any] = json.loads(self._index.read_text()) if self._index.exists() else {}

    def file(self, name: str, made_of: str, make: Callable[[Path], object]) -> Path:
        """The file NAME, with a hash of `made_of` in front of its suffixes; `make` writes it where it is missing."""
        stem, _, suffixes = name.partition(".")
        path = self.folder / f"{stem}-{xxhash.xxh3_64_hexdigest(made_of.encode())}.{suffixes}"
        if not path.exists():
            unfinished = path.with_name(f"{path.name}.unfinished")
            make(unfinished)
            os.replace(unfinished, path)
        return path

    def figures(self, key: str, measure: Callable[[], Any]) -> Any:
        """What `measure` gave for `key`, now or earlier."""
        if key not in self._figures:
            self._figures[key] = measure()
            unfinished = self._index.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(self._figures, indent=1))
            os.replace(unfinished, self._index)
        return self._figures[key]


def hash_files(*paths: Path) -> str:
    """Of the bytes of all of them, one after the other."""
    digest = xxhash.xxh3_128()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()
