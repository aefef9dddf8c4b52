"""How fast a disk serves the reads that experts need."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgemoe.errors import ReadError

READ_LENGTH = 256 << 10
_FILE_BYTES = 256 << 20
_BLOCK_BYTES = 1 << 20
_READS_PER_READER = 128
_MANY_READERS = 8
_BLOCK = 4096
_SHORT_READS = 64


@dataclass(frozen=True)
class DiskSpeed:
    """Bytes per second of random reads of READ_LENGTH past the page cache; seconds of a short one."""

    one_reader: float
    many_readers: float
    latency: float


def measure_disk(path: Path) -> DiskSpeed:
    """The speed of reads from a file, or from a temporary file in a directory.

    Raises:
        ReadError: when the file cannot be read, or the directory holds no temporary file of 256 MiB.
    """
    if path.is_dir():
        with _temporary_file(path) as file:
            return measure_disk(file)
    from edgemoe import _native

    one = _native.read_speed(str(path), 1, READ_LENGTH, _READS_PER_READER)
    many = _native.read_speed(str(path), _MANY_READERS, READ_LENGTH, _READS_PER_READER * _MANY_READERS)
    latency = _BLOCK / _native.read_speed(str(path), 1, _BLOCK, _SHORT_READS)
    return DiskSpeed(one, many, latency)


@contextmanager
def _temporary_file(directory: Path) -> Iterator[Path]:
    """A file of random bytes, which no filesystem compresses or leaves out, removed afterwards."""
    block = os.urandom(_BLOCK_BYTES)
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".edgemoe-doctor-") as file:
            for _ in range(_FILE_BYTES // _BLOCK_BYTES):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            yield Path(file.name)
    except OSError as error:
        reason = error.strerror or error
        raise ReadError(f"cannot measure the disk in {directory}: {reason}; choose another --dir") from error
