"""Files that appear under their name only when they are complete, and whose writing goes on after a kill.

OUT.partial holds what is written so far, OUT.partial.journal what of it is complete. A part is journalled after its
data reached the disk, so that neither a killed process nor a power cut leaves a journal that promises too much.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from edgemoe.errors import WriteError
from edgemoe.packs.planes import Bytes
from edgemoe.packs.scratch import forget
from edgemoe.packs.source import read_exactly
from edgemoe.sizes import format_size

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_output(output: Path, *, overwrite: bool) -> None:
    """Raises WriteError when `output` is a file that is not to be overwritten, or no file: a folder, a device; and when
    there is no folder for it."""
    if os.path.isdir(output):
        raise WriteError(f"{output} is a folder: give the name of a file in it")
    if not os.path.isdir(output.parent):
        raise WriteError(f"{output} cannot be written: there is no folder {output.parent}")
    if os.path.exists(output) and not os.path.isfile(output):
        raise WriteError(f"{output} is no regular file: choose another name")
    if os.path.exists(output) and not overwrite:
        raise WriteError(f"{output} exists: choose another name, or replace it with --overwrite (overwrite=True)")


class PartialFile:
    """A file of `size` bytes in the making, to be published as `output`. Any number of threads may write to it.

    `fingerprint` says of what and how it is made: parts from an earlier attempt with another fingerprint are dropped.

    Raises:
        WriteError: when `output` is refused by `check_output`, its folder cannot be written or has too little space, or
            another process is at work on the same file.
    """

    def __init__(self, output: Path, size: int, fingerprint: dict[str, Any], *, overwrite: bool = False) -> None:
        check_output(output, overwrite=overwrite)
        self.output = output
        self.path = output.with_name(f"{output.name}.partial")
        self.journal = output.with_name(f"{output.name}.partial.journal")
        self._file = self._open()
        try:
            self._lock()
            self.done: set[str] = self._resume(size, fingerprint)
        except BaseException:
            self.close()
            raise

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise WriteError(f"{self.path} cannot be written: {error.strerror}") from error

    def _lock(self) -> None:
        taken = False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken = True
        except OSError:
            return  # a file system without locks
        with contextlib.suppress(FileNotFoundError):
            # The other process may have published between our open and our lock.
            taken = taken or not os.path.samestat(os.stat(self.path), os.fstat(self._file))
        if taken or not os.path.exists(self.path):
            raise WriteError(f"another process is writing {self.output}")

    def _resume(self, size: int, fingerprint: dict[str, Any]) -> set[str]:
        """Names of the parts that an earlier attempt completed."""
        done = self._journalled(fingerprint) if os.fstat(self._file).st_size == size else None
        with self._explained():
            if done is None:
                self.journal.unlink(missing_ok=True)
                os.ftruncate(self._file, 0)
            self._check_space(size)
            if done is None:
                os.ftruncate(self._file, size)
                self._append({"fingerprint": fingerprint})
            else:
                self._drop_torn_line()
        return done or set()

    def _drop_torn_line(self) -> None:
        """What a kill cut off would become the beginning of the next line."""
        os.truncate(self.journal, self.journal.read_bytes().rfind(b"\n") + 1)

    def _journalled(self, fingerprint: dict[str, Any]) -> set[str] | None:
        """None where there is no journal of this file; a last line that a kill cut off does not count."""
        try:
            first, *rest = self.journal.read_text(encoding="utf-8").split("\n")[:-1]
            if json.loads(first) != {"fingerprint": fingerprint}:
                return None
            return {json.loads(line)["done"] for line in rest}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _check_space(self, size: int) -> None:
        stat = os.fstat(self._file)
        needed = size - min(stat.st_blocks * 512, stat.st_size)
        disk = os.statvfs(self.output.parent)
        free = disk.f_bavail * disk.f_frsize
        if needed > free:
            if stat.st_size == 0:
                self.path.unlink(missing_ok=True)
            raise WriteError(
                f"{self.output} needs {format_size(needed)} more on its disk, which has {format_size(free)} free: "
                f"make room, or choose another disk"
            )

    def write(self, offset: int, data: Bytes | bytes) -> None:
        """Writes all of `data` at `offset`. Raises WriteError, with what is written kept, when the disk is full."""
        view = memoryview(data).cast("B")
        with self._explained():
            while view:
                count = os.pwrite(self._file, view, offset)
                view, offset = view[count:], offset + count

    def read(self, offset: int, length: int, into: Bytes | None = None) -> Bytes:
        """What lies at `offset`: uint8 [length], in `into` if that is given."""
        return read_exactly(self._file, offset, length, into)

    def forget(self, offset: int, length: int) -> None:
        """Says that these bytes, which are on the disk, are neither written nor read again."""
        forget(self._file, offset, length)

    def commit(self, name: str) -> None:
        """Records that the part `name` is complete."""
        with self._explained():
            os.fdatasync(self._file)
            self._append({"done": name})

    def _append(self, line: dict[str, Any]) -> None:
        with self.journal.open("ab") as journal:
            journal.write(json.dumps(line).encode() + b"\n")
            journal.flush()
            os.fsync(journal.fileno())

    def sync(self) -> None:
        """Returns when all that was written is on the disk."""
        with self._explained():
            os.fsync(self._file)

    def publish(self) -> None:
        """Gives the complete file its name; from then on it is no longer partial."""
        with self._explained():
            os.replace(self.path, self.output)
            self.journal.unlink(missing_ok=True)
            folder = os.open(self.output.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextlib.contextmanager
    def _explained(self) -> Any:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise WriteError(f"{self.path} cannot be written: {error.strerror}") from error
            raise WriteError(
                f"no room left for {self.path} ({error.strerror}): make some and run the same command again, which "
                f"goes on where it stopped; or delete that file"
            ) from error

    def discard(self) -> None:
        """Deletes what is written: no later attempt could go on with it."""
        self.journal.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file; what is written stays for the next attempt."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> PartialFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def as_bytes(array: np.ndarray) -> Bytes:
    """The memory of a contiguous array: uint8 [bytes]."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
