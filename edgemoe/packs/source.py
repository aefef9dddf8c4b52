"""The model that a pack is made of: where its tensors lie, reading them, and noticing that it changed meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from edgemoe.errors import ModelError, ReadError
from edgemoe.packs.header import Header, Value, read_header
from edgemoe.packs.planes import Bytes
from edgemoe.packs.scratch import forget
from edgemoe.packs.summary import open_model

_CHUNK = 4 << 20


@dataclass(frozen=True)
class SourceTensor:
    """A tensor of the source; `offset` counts from the start of its file (shard number `file`)."""

    name: str
    shape: tuple[int, ...]
    type: int
    type_name: str
    bytes: int
    file: int
    offset: int
    expert: bool

    @property
    def ne(self) -> tuple[int, int, int, int]:
        """The shape with the trailing ones that a header may leave out."""
        n0, n1, n2, n3 = (*self.shape, 1, 1, 1, 1)[:4]
        return n0, n1, n2, n3


class Source:
    """An opened model of one or several files. Any number of threads may read from it.

    Raises:
        ModelError, ReadError: as `open_model` does.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        model = open_model(path)
        self.paths = [Path(name) for name in model.paths]
        self._files: list[int] = []
        try:
            for name in self.paths:
                self._files.append(_open(name))
            self._stats = [os.fstat(file) for file in self._files]
            headers = [read_header(name, _header_limit(model, i)) for i, name in enumerate(self.paths)]
        except BaseException:
            self.close()
            raise
        self.keys: dict[str, Value] = headers[0].keys
        self.tensors = list(_tensors(model, headers))
        self.sizes = [stat.st_size for stat in self._stats]

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(self.sizes)

    def identity(self) -> list[list[Any]]:
        """What tells this source from another one or from a later state of itself."""
        return [[p.name, s.st_size, s.st_mtime_ns] for p, s in zip(self.paths, self._stats, strict=True)]

    def end(self, tensor: SourceTensor) -> int:
        """Where a tensor ends, all files laid end to end."""
        return sum(self.sizes[: tensor.file]) + tensor.offset + tensor.bytes

    def read(self, tensor: SourceTensor, start: int, length: int, into: Bytes | None = None) -> Bytes:
        """Bytes of a tensor: uint8 [length], in `into` if that is given.

        Raises:
            ReadError: when the file cannot be read or has become shorter.
        """
        return self.read_at(tensor.file, tensor.offset + start, length, into)

    def chunks(self) -> Iterator[Bytes]:
        """All bytes of all files in order, each chunk in the memory of the one before."""
        memory = np.empty(_CHUNK, np.uint8)
        for number, size in enumerate(self.sizes):
            for start in range(0, size, _CHUNK):
                length = min(_CHUNK, size - start)
                yield self.read_at(number, start, length, memory[:length])

    def read_at(self, number: int, offset: int, length: int, into: Bytes | None = None) -> Bytes:
        """Bytes of file `number`: uint8 [length], in `into` if that is given. Raises ReadError."""
        path = self.paths[number]
        try:
            return read_exactly(self._files[number], offset, length, into)
        except EOFError:
            raise ReadError(f"{path} became shorter while it was read: it ends before byte {offset + length}") from None
        except OSError as error:
            raise ReadError(f"{path} cannot be read at byte {offset}: {error.strerror}") from error

    def forget(self, tensor: SourceTensor) -> None:
        """Says that a tensor is not read again."""
        forget(self._files[tensor.file], tensor.offset, tensor.bytes)

    def check_unchanged(self) -> None:
        """Raises ModelError when a file was written to since it was opened."""
        for path, file, before in zip(self.paths, self._files, self._stats, strict=True):
            now = os.fstat(file)
            if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise ModelError(f"{path} was changed while it was read: run this again once nothing writes to it")

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            os.close(file)
        self._files = []

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Prefetcher:
    """Hashes a source from front to back on a thread of its own, which leaves what others read next in the page cache.

    So the source is read from disk once. How far it may go ahead is told with `allow`.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._digest = xxhash.xxh3_128()
        self._changed = threading.Condition()
        self._allowed = 0
        self._done = 0
        self._stopped = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="edgemoe-prefetch", daemon=True)
        self._thread.start()

    def allow(self, position: int) -> None:
        """It may read up to `position`, all files laid end to end."""
        with self._changed:
            self._allowed = max(self._allowed, position)
            self._changed.notify_all()

    def wait(self, position: int) -> None:
        """Returns when everything before `position` was read; raises what went wrong."""
        with self._changed:
            while self._done < position and self._failure is None:
                self._changed.wait(0.2)
            if self._failure is not None:
                raise self._failure

    def finish(self) -> str:
        """The hash of the whole source: 32 hexadecimal digits."""
        self.allow(self._source.bytes)
        self.wait(self._source.bytes)
        self._thread.join()
        return self._digest.hexdigest()

    def stop(self) -> None:
        """Ends the thread, wherever it is."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            for chunk in self._source.chunks():
                self._digest.update(chunk)
                with self._changed:
                    self._done += chunk.size
                    self._changed.notify_all()
                    while self._done >= self._allowed and self._done < self._source.bytes and not self._stopped:
                        self._changed.wait()
                    if self._stopped:
                        return
        except BaseException as failure:  # told to the thread that waits
            with self._changed:
                self._failure = failure
                self._changed.notify_all()


def read_exactly(file: int, offset: int, length: int, into: Bytes | None = None) -> Bytes:
    """`length` bytes at `offset` of an open file: uint8 [length], in `into` if that is given.

    Raises:
        EOFError: when the file ends before.
        OSError: when it cannot be read.
    """
    data = np.empty(length, np.uint8) if into is None else into
    view, done = memoryview(data), 0
    while done < length:
        count = os.preadv(file, [view[done:]], offset + done)
        if count == 0:
            raise EOFError
        done += count
    return data


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ReadError(f"{path} cannot be opened: {error.strerror}") from error


def _header_limit(model: Any, number: int) -> int:
    """Bytes within which the header of a shard ends."""
    return min((t.offset for t in model.stored if t.file == number), default=1 << 24)


def _tensors(model: Any, headers: list[Header]) -> Iterator[SourceTensor]:
    entries = [{entry.name: entry for entry in header.entries} for header in headers]
    for tensor in model.stored:
        entry = entries[tensor.file].get(tensor.name)
        if entry is None:
            raise ModelError(f"{model.paths[tensor.file]}: the name of tensor {tensor.name!r} cannot be read")
        yield SourceTensor(
            name=tensor.name,
            shape=entry.shape,
            type=entry.type,
            type_name=tensor.type.upper(),
            bytes=tensor.bytes,
            file=tensor.file,
            offset=tensor.offset,
            expert=tensor.expert,
        )
