"""Packs: from a model to planes, expert by expert, so that nothing but a few experts is ever in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import xxhash
from threadpoolctl import threadpool_limits

from edgemoe import machine
from edgemoe.errors import EdgeMoEError, ModelError
from edgemoe.packs import codec
from edgemoe.packs.dense import DenseTensor, dense_chunks
from edgemoe.packs.encode import Encoder, Encodes, MakeEncoder, table_rows
from edgemoe.packs.heads import Heads
from edgemoe.packs.layout import CHECKSUMS, LEVEL_PRICES, ExpertTensor, Group
from edgemoe.packs.partial import PartialFile, as_bytes, check_output
from edgemoe.packs.plan import SOURCE_HASH, PackPlan, Settings, fingerprint, make_plan
from edgemoe.packs.reader import Pack
from edgemoe.packs.report import Report, make_report
from edgemoe.packs.scratch import Scratch
from edgemoe.packs.source import Prefetcher, Source, SourceTensor
from edgemoe.packs.verify import small_damages

Progress = Callable[[int, int], None]
"""Told how many bytes of the source are done, and of how many."""


@dataclass(frozen=True)
class Packed:
    """What `pack` made. `resumed` counts the groups that an earlier attempt had completed."""

    path: Path
    bytes: int
    source_bytes: int
    seconds: float
    resumed: int
    report: Report
    notes: list[str]


def pack(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    make_encoder: MakeEncoder = Encoder,
) -> Packed:
    """Makes the pack `output` of the model `source` (the first file, if it is split).

    The file gets its name when it is complete and checked. An interrupted attempt is gone on with by the next one with
    the same source and settings; the bytes are those of an attempt without interruption.

    `make_encoder` makes what encodes experts, `settings.threads` at a time; the bytes do not depend on
    where that is done.

    Raises:
        ModelError: when the source cannot be packed or changes meanwhile.
        ReadError, WriteError: when a file cannot be read or written.
        EdgeMoEError: when a setting cannot be followed.
    """
    settings = settings or Settings()
    started = time.monotonic()
    with Source(source) as opened:
        output = Path(output)
        plan = _checked_plan(opened, output, settings, overwrite)
        tables = table_rows(codec.default_tables(), plan.levels)
        digest = xxhash.xxh3_64_hexdigest(b"".join(as_bytes(tables[level]).tobytes() for level in plan.levels))
        made_of = fingerprint(opened, settings, plan, digest)
        with PartialFile(output, plan.bytes, made_of, overwrite=overwrite) as file:
            encoder = make_encoder(plan.levels, settings, codec.default_tables())
            writer = _Writer(opened, plan, settings, file, tables, encoder, progress or (lambda done, total: None))
            # The workers are the threads; a library that starts its own for each of them spends its time waiting.
            with threadpool_limits(1, "blas"):
                writer.run()
            if settings.heads and plan.has_heads:
                writer.write_heads(settings.heads(file.path))
            with Pack(file.path) as pack:
                if damages := small_damages(pack):
                    raise EdgeMoEError(f"{file.path}: {damages[0]}, right after it was written: check the disk")
                report = make_report(pack)
            opened.check_unchanged()
            file.publish()
    seconds = time.monotonic() - started
    return Packed(output, plan.bytes, opened.bytes, seconds, len(writer.resumed), report, plan.notes)


def check_request(
    source: str | os.PathLike[str], output: str | os.PathLike[str], settings: Settings, *, overwrite: bool = False
) -> PackPlan:
    """The pack that `pack` would make; raises what it would raise before it writes anything."""
    with Source(source) as opened:
        return _checked_plan(opened, Path(output), settings, overwrite)


def _checked_plan(source: Source, output: Path, settings: Settings, overwrite: bool) -> PackPlan:
    if os.path.exists(output) and any(os.path.samefile(output, path) for path in source.paths):
        raise EdgeMoEError(f"{output} is the source itself: choose another name")
    plan = make_plan(source, settings)
    check_output(output, overwrite=overwrite)
    return plan


Item = Group | DenseTensor


class _Writer:
    """Fills the partial file. Items (groups and dense tensors) are taken in the order of the source."""

    def __init__(
        self,
        source: Source,
        plan: PackPlan,
        settings: Settings,
        file: PartialFile,
        tables: dict[int, Any],
        encoder: Encodes,
        progress: Progress,
    ) -> None:
        self._source = source
        self._plan = plan
        self._file = file
        self._tables = tables
        self._encoder = encoder
        self._workers = settings.threads or machine.processors()
        self._progress = progress
        self._done = 0
        self._lock = Lock()
        self._stopped = Event()
        self._scratch = Scratch()
        self._stacks = {tensor.name: tensor for tensor in source.tensors}
        self._checksums: dict[str, int] = {}
        self.resumed: set[str] = set()

    def run(self) -> None:
        """Writes everything; on return all of it is on the disk."""
        self._file.write(0, self._plan.header)
        self._write_tables()
        # The last read of what was written before it counts as done goes on beside the encoding of what follows.
        prefetcher = Prefetcher(self._source)
        workers = ThreadPoolExecutor(self._workers, "edgemoe-pack")
        committer = ThreadPoolExecutor(1, "edgemoe-commit")
        try:
            self._finish_all(self._encode_all(prefetcher, workers, committer))
            self._write_hash(prefetcher.finish())
        finally:
            self._stopped.set()
            prefetcher.stop()
            workers.shutdown(cancel_futures=True)
            committer.shutdown(cancel_futures=True)
        self._write_checksums()
        self._file.sync()

    def _encode_all(
        self, prefetcher: Prefetcher, workers: ThreadPoolExecutor, committer: ThreadPoolExecutor
    ) -> list[Future[None]]:
        items = self._items()
        ends = [max(map(self._source.end, self._tensors(item))) for item in items]
        # It reads up to the end of the next layer's experts, so that they are there when this layer's are done.
        groups = [end for end, item in zip(ends, items, strict=True) if isinstance(item, Group)]
        ahead = [next((group for group in groups if group > end), ends[-1]) for end in ends]
        pending: list[Future[None]] = []
        for number, item in enumerate(items):
            prefetcher.allow(ahead[number])
            prefetcher.wait(ends[number])
            if isinstance(item, DenseTensor):
                pending.append(workers.submit(self._copy_dense, item))
            elif item.name in self._file.done and not self._damage(item):
                self.resumed.add(item.name)
                self._advance(sum(tensor.bytes for tensor in self._tensors(item)))
            else:
                pending.append(self._encode_group(item, workers, committer))
            self._finish_all([future for future in pending if future.done()])
        return pending

    def _items(self) -> list[Item]:
        items: list[Item] = [*self._plan.dense, *self._plan.groups]
        return sorted(items, key=lambda item: max(map(self._source.end, self._tensors(item))))

    def _tensors(self, item: Item) -> list[SourceTensor]:
        if isinstance(item, DenseTensor):
            return [item.tensor]
        return [self._stacks[tensor.name] for tensor in item.tensors]

    def _finish_all(self, futures: Iterable[Future[None]]) -> None:
        """Waits for all, and raises the first failure as soon as it is there."""
        done, _ = wait(list(futures), return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()

    # Groups

    def _encode_group(self, group: Group, workers: ThreadPoolExecutor, committer: ThreadPoolExecutor) -> Future[None]:
        shape = (group.experts, len(self._plan.levels))
        errors, sums = np.zeros(shape, "<f4"), np.zeros(shape, "<u8")
        tasks = [workers.submit(self._encode_expert, group, expert, errors, sums) for expert in range(group.experts)]
        self._finish_all(tasks)
        self._file.write(self._plan.entries[group.tensor_name("eps")].offset, as_bytes(errors))
        self._file.write(self._plan.entries[group.tensor_name("xxh3")].offset, as_bytes(sums))
        for tensor in self._tensors(group):
            self._source.forget(tensor)
        return committer.submit(self._commit, group)

    def _encode_expert(self, group: Group, expert: int, errors: np.ndarray, sums: np.ndarray) -> None:
        if self._stopped.is_set():
            return
        raw = [self._read_matrix(number, tensor, expert) for number, tensor in enumerate(group.tensors)]
        try:
            encoded = self._encoder.encode(group, expert, raw)
        except (EdgeMoEError, ValueError) as error:
            raise ModelError(
                f"{self._source.paths[0]}: expert {expert} of {group.name} cannot be encoded: {error}"
            ) from error
        errors[expert] = encoded.errors
        for number, level in enumerate(self._plan.levels):
            if level in encoded.extents:
                extent = encoded.extents[level]
                self._file.write(self._plan.entries[group.tensor_name(level)].offset + expert * extent.size, extent)
                sums[expert, number] = xxhash.xxh3_64_intdigest(extent)
        self._advance(sum(data.size for data in raw))

    def _read_matrix(self, number: int, tensor: ExpertTensor, expert: int) -> np.ndarray:
        stack = self._stacks[tensor.name]
        size = stack.bytes // tensor.experts
        into = self._scratch.array(number, size)
        return self._source.read(stack, expert * size, size, into).reshape(tensor.rows, -1)

    def _commit(self, group: Group) -> None:
        """Reads the group back before it counts as done."""
        if self._stopped.is_set():
            return
        if damaged := self._damage(group):
            raise EdgeMoEError(f"{self._file.path}: {damaged} is not what was written: check the disk")
        self._file.commit(group.name)
        for level in self._plan.levels:
            if group.extent(level):
                extents = self._plan.entries[group.tensor_name(level)]
                self._file.forget(extents.offset, extents.bytes)

    def _damage(self, group: Group) -> str | None:
        """The first extent that is not what its checksum says, in words."""
        sums = self._file.read(
            self._plan.entries[group.tensor_name("xxh3")].offset, 8 * group.experts * len(self._plan.levels)
        )
        expected = sums.view("<u8").reshape(group.experts, -1)
        for number, level in enumerate(self._plan.levels):
            size = group.extent(level)
            for expert in range(group.experts if size else 0):
                start = self._plan.entries[group.tensor_name(level)].offset + expert * size
                extent = self._file.read(start, size, self._scratch.array("read", size))
                if xxhash.xxh3_64_intdigest(extent) != expected[expert, number]:
                    return f"level {level} of expert {expert} of {group.name}"
        return None

    # Everything else

    def _copy_dense(self, dense: DenseTensor) -> None:
        offset = self._plan.entries[dense.tensor.name].offset
        digest = xxhash.xxh3_64()
        for chunk in dense_chunks(self._source, dense):
            if self._stopped.is_set():
                return
            data = as_bytes(chunk)
            digest.update(data)
            self._file.write(offset, data)
            offset += data.size
        self._source.forget(dense.tensor)
        self._checksums[dense.tensor.name] = digest.intdigest()
        self._advance(dense.tensor.bytes)

    def _write_tables(self) -> None:
        if self._plan.has_t16:
            for level, rows in self._tables.items():
                self._file.write(self._plan.entries[f"mwq.t16.{level}"].offset, as_bytes(rows))

    def write_heads(self, heads: Heads) -> None:
        """What heads of the rest of the pack say; their place held zeros before."""
        for name, head in heads.heads.items():
            self._file.write(self._plan.entries[f"{name}.mwq.head.in"].offset, as_bytes(head.inward))
            self._file.write(self._plan.entries[f"{name}.mwq.head.out"].offset, as_bytes(head.outward))
        self._file.write(self._plan.entries[LEVEL_PRICES].offset, as_bytes(heads.prices))
        self._write_checksums()
        self._file.sync()

    def _write_hash(self, digest: str) -> None:
        self._file.write(self._plan.places[SOURCE_HASH] + 8, digest.encode())  # behind the string's length

    def _write_checksums(self) -> None:
        """Of the header and of every tensor without checksums of its own, in file order."""
        entries = list(self._plan.entries.values())
        last = next(number for number, entry in enumerate(entries) if entry.name == CHECKSUMS)
        sums = [xxhash.xxh3_64_intdigest(self._file.read(0, len(self._plan.header)))]
        for entry in entries[:last]:
            known = self._checksums.get(entry.name)
            sums.append(
                xxhash.xxh3_64_intdigest(self._file.read(entry.offset, entry.bytes)) if known is None else known
            )
        self._file.write(entries[last].offset, as_bytes(np.array(sums, "<u8")))

    def _advance(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, sum(tensor.bytes for tensor in self._source.tensors))
