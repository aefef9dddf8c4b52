"""The headers of models that are still elsewhere: enough to plan with them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgemoe.errors import DownloadError, ModelError
from edgemoe.hub.transfer import Remote, read_start

_FIRST = 1 << 20
_GROWTH = 4
_LONGEST = 128 << 20
_MAGIC = b"GGUF"


@contextmanager
def stand_in(shards: Sequence[Remote]) -> Iterator[Path]:
    """A model that has the headers, sizes and names of `shards`, and nothing else: its other bytes take no room.

    Of a pack, the tables that say what its levels cost are there too.

    Raises:
        ModelError: what is there is no GGUF.
        DownloadError: it cannot be read, or its server does not tell its size.
    """
    with tempfile.TemporaryDirectory(prefix="edgemoe-header-") as folder:
        paths = [_write(Path(folder), shard) for shard in shards]
        yield paths[0]


def _write(folder: Path, shard: Remote) -> Path:
    if shard.bytes is None:
        raise DownloadError(f"the server of {shard.name} does not say how large it is")
    path = folder / Path(shard.name).name
    start, tables = _header(shard)
    with path.open("wb") as file:
        file.truncate(shard.bytes)
        file.write(start)
        for offset, end in tables:
            file.seek(offset)
            file.write(read_start(shard, offset, end - offset))
    return path


def _header(shard: Remote) -> tuple[bytes, list[tuple[int, int]]]:
    """All of the header, and where a pack's tables are."""
    from edgemoe.packs.header import Header, parse_header
    from edgemoe.packs.layout import is_table

    data = b""
    wanted = _FIRST
    header: Header | None = None
    while header is None:
        data += read_start(shard, len(data), wanted - len(data))
        if not data.startswith(_MAGIC):
            raise ModelError(f"{shard.name} is no GGUF file: it does not start with the letters GGUF")
        try:
            header = parse_header(data, shard.name)
        except ModelError:
            if len(data) < wanted or wanted >= _LONGEST:  # it is not the end that is missing
                raise
            wanted *= _GROWTH
    entries = sorted(header.entries, key=lambda entry: entry.offset)
    ends = [entry.offset for entry in entries[1:]] + [shard.bytes or 0]
    tables = [(entry.offset, end) for entry, end in zip(entries, ends, strict=True) if is_table(entry.name)]
    return data, _joined(tables)


def _joined(pieces: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours are read at once."""
    found: list[tuple[int, int]] = []
    for start, end in pieces:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found
